"""The most that an answer can cost, and the most tokens it may have for that. Pure."""

from routing.engine.need import DEFAULT_OUTPUT_TOKENS, Need, is_able, is_allowed
from routing.engine.policy import Candidate, Policy

# The most an answer paid from a budget may have, unless its caller says more.
BUDGETED_OUTPUT_TOKENS = 4096
# A count so many times beyond what was sent, or asked for, or has room is an upstream's fault.
BEYOND_BELIEF = 100
MOST_TOKENS = 2**31 - 1  # as a record's column holds


def output_cap(candidate: Candidate, need: Need) -> int:
    """Return the most tokens an answer is paid for: what the caller says, or else a default."""
    if need.max_tokens is not None:
        return need.max_tokens
    if need.cost_limit_nusd is not None or need.wallet is None:
        return DEFAULT_OUTPUT_TOKENS
    room = candidate.context_length - need.prompt_tokens
    return max(1, min(BUDGETED_OUTPUT_TOKENS, room))


def answer_limit(candidate: Candidate, need: Need) -> int | None:
    """Return the most tokens to ask for: what is paid for, wherever an answer's length costs."""
    if need.max_tokens is not None:
        return need.max_tokens
    price = candidate.price
    if price is None or not price.output_nusd:
        return None
    limited = need.wallet is not None and need.wallet.limits(candidate.model_name)
    return output_cap(candidate, need) if limited or need.cost_limit_nusd is not None else None


def bound_nusd(candidate: Candidate, need: Need, more_prompt: int = 0) -> int | None:
    """Return the most that a call can cost; None where the price is not known.

    `more_prompt` is what is sent beyond the caller's own prompt, in tokens at most.
    """
    price = candidate.price
    if price is None:
        return None
    prompt = most_prompt_tokens(candidate, need, more_prompt)
    return price.bound_nusd(prompt, output_cap(candidate, need), embed=need.task == "embedding")


def most_prompt_tokens(candidate: Candidate, need: Need, more_prompt: int = 0) -> int:
    """Return the most tokens that a call's prompt can be; `more_prompt` as for `bound_nusd`."""
    bound, likely = need.prompt_bound, need.prompt_tokens
    prompt = (bound if bound > likely else likely) + more_prompt
    return prompt + candidate.excess_tokens if prompt else 0


def is_believable(candidate: Candidate, need: Need, *, prompt: int, output: int) -> bool:
    """Return True if so many tokens may have been counted for a call to `candidate`."""
    room = candidate.context_length
    sent = max(need.prompt_bound, need.prompt_tokens, room)
    asked = max(output_cap(candidate, need), room)
    return _is_possible(prompt, sent) and _is_possible(output, asked)


def _is_possible(tokens: int, likely: int) -> bool:
    return 0 <= tokens <= min(BEYOND_BELIEF * likely, MOST_TOKENS)


def cheapest_bound_nusd(policy: Policy, need: Need) -> int:
    """Return the lowest bound among the models able to do the task; 0 if none has a price."""
    able = (c for c in policy.candidates if is_able(c, need) and is_allowed(c.model_name, need))
    bounds = (bound_nusd(c, need) for c in able)
    return min((bound for bound in bounds if bound is not None), default=0)
