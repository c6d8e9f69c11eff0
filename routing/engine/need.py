"""What a request asks of its model, and what can be told from that alone. Pure."""

import msgspec

from routing.engine.policy import Candidate
from routing.engine.wallet import Wallet

DEFAULT_OUTPUT_TOKENS = 512


# Structs of msgspec where one is made for every request: they cost a fifth of a dataclass to make.
class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks of its model. Tokens are counts, money is nano-dollars."""

    task: str
    priority: str = "normal"
    floor: int = 0  # least quality rank, 0..3
    prompt_tokens: int = 0
    max_tokens: int | None = None
    cost_limit_nusd: int | None = None
    model: str | None = None  # the caller insists on this one
    exclude: frozenset[str] = frozenset()
    tenant: str = ""  # whose request it is; empty: nobody said
    key: str = ""  # the name of the API key
    tag: str = ""  # what the caller calls the work it is for
    prompt_bound: int = 0  # the most tokens the prompt can be; `prompt_tokens` is the likely count
    prompt_bytes: int = 0  # of its text in UTF-8
    wallet: Wallet | None = None  # None: no budget counts it
    allowed: frozenset[str] | None = None  # models it may use; None: all
    share: float = 1.0  # its tenant's part of a contended endpoint

    @property
    def output_tokens(self) -> int:
        return DEFAULT_OUTPUT_TOKENS if self.max_tokens is None else self.max_tokens


def likely_tokens(need: Need) -> int:
    """Return how long an answer to expect: few use all the tokens they were allowed."""
    most = need.max_tokens
    return DEFAULT_OUTPUT_TOKENS if most is None or most > DEFAULT_OUTPUT_TOKENS else most


def is_able(candidate: Candidate, need: Need) -> bool:
    """Return True if the model can do what is asked."""
    # A caller who names a model for chat may use whatever chats; embedding is another protocol.
    capabilities = candidate.model.capabilities
    if need.model is None or need.task == "embedding":
        return need.task in capabilities
    return any(task != "embedding" for task in capabilities)


def is_allowed(model: str, need: Need) -> bool:
    """Return True if the caller may use the model."""
    return need.allowed is None or model in need.allowed
