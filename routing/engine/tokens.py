"""How many tokens a prompt is: about, from what was seen of each model; and at most, by its bytes.

A byte-level tokenizer makes no more tokens than the text has bytes, and nearly all models of today
have one. What a template wraps around messages is allowed for by count. What upstreams report
beyond that is learned, so that it is too little once.
"""

# Around a message: its role, and what begins and ends it.
MESSAGE_TOKENS = 16
# Around all of them: a system prompt of the template's own, dates, the beginning of the answer.
TEMPLATE_TOKENS = 64
# The words in which a template explains what tools are, and how to call them.
TOOLS_TOKENS = 512
# Before anything was learned: a token is some four bytes.
PRIOR_BYTES_PER_TOKEN = 4.0
# Each answer counts this much in a model's ratio.
LEARNING = 0.05


def prompt_bound(text_bytes: int, *, messages: int = 1, tool_bytes: int = 0) -> int:
    """Return the most tokens that so much text can be, with what a template adds."""
    bound = text_bytes + TEMPLATE_TOKENS + MESSAGE_TOKENS * messages
    # Templates write tools out anew, with indentation: a line break and a run of blanks are tokens.
    return bound + (2 * tool_bytes + TOOLS_TOKENS if tool_bytes else 0)


class TokenRatios:
    """What was learned of each model's tokens in this worker."""

    __slots__ = ("_bytes_per_token", "_excess")

    def __init__(self) -> None:
        self._bytes_per_token: dict[str, float] = {}
        self._excess: dict[str, int] = {}

    def see(self, model: str, *, text_bytes: int, bound: int, tokens: int, most: int) -> bool:
        """Learn from a prompt's count, as its upstream gave it; return True if it broke the bound.

        A count of 0 says that the prompt was at hand, and nothing of its length. Beyond `most`, the
        model's context, a count is wrong: no more than that is learned.
        """
        if tokens <= 0 or text_bytes <= 0:
            return False
        known = self._bytes_per_token.get(model, PRIOR_BYTES_PER_TOKEN)
        self._bytes_per_token[model] = known + LEARNING * (text_bytes / tokens - known)
        excess = min(tokens, most) - bound
        if excess <= self._excess.get(model, 0):
            return False
        self._excess[model] = excess
        return True

    def tokens(self, model: str, text_bytes: int) -> int:
        """Return about how many tokens a text is to `model`."""
        return int(text_bytes / self._bytes_per_token.get(model, PRIOR_BYTES_PER_TOKEN)) + 1

    def excess(self, model: str) -> int:
        """Return how many tokens more than its bound a prompt was, at most, so far."""
        return self._excess.get(model, 0)
