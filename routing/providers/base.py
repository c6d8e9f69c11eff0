"""What every upstream protocol is turned into, and the contract its adapter keeps."""

from collections.abc import AsyncIterator
from typing import Any, Protocol, runtime_checkable

import msgspec


class Call(msgspec.Struct, kw_only=True):
    """One question to one model, in no protocol's own words.

    Either `prompt` or `messages` is given; `inputs` is given instead for embeddings. Messages and
    `params` use OpenAI's names; an adapter drops what its protocol cannot say.
    """

    model: str  # as the upstream knows it
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    inputs: list[str] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    num_ctx: int | None = None
    keep_alive: str = ""
    prefill: str = ""  # the beginning of the answer; only what follows it is wanted


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the upstream reported them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0  # of the prompt's, those that were at hand


class Answer(msgspec.Struct, kw_only=True):
    """A whole answer. `usage` is None where the upstream gave none."""

    text: str = ""
    finish_reason: str = "stop"
    tool_calls: list[dict[str, Any]] | None = None
    usage: Usage | None = None
    load_ms: float = 0.0  # what a cold start cost, where the upstream says so
    work_ms: float = 0.0  # of the generation alone, where the upstream says so
    waited_ms: float | None = None  # in the upstream's own queue, where it says so
    busy_ms: float = 0.0  # what its work took, by its own account
    vectors: list[list[float]] | None = None


class Piece(msgspec.Struct, kw_only=True):
    """A part of a streamed answer. The last one carries `finish_reason`; `usage` may come later."""

    text: str = ""
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    load_ms: float = 0.0
    waited_ms: float | None = None
    busy_ms: float = 0.0
    thinking: bool = False  # it holds a thought, which is not passed on


@runtime_checkable
class Loader(Protocol):
    """An adapter whose engine loads and unloads models when told to."""

    async def load(self, call: Call) -> None:
        """Return once the model of `call` is in memory, with the options pinned there."""

    async def unload(self, model: str) -> None:
        """Have a model leave memory once nobody uses it."""

    async def loaded(self) -> frozenset[str]:
        """Return the names of the models in memory."""


class Provider(Protocol):
    """One upstream endpoint. Raises only `ProviderError`s; the caller bounds every wait."""

    async def complete(self, call: Call) -> Answer:
        """Return the whole answer."""

    def stream(self, call: Call) -> AsyncIterator[Piece]:
        """Yield pieces; ends normally only after the upstream's own end marker."""

    async def embed(self, call: Call) -> Answer:
        """Return one vector for each of `call.inputs`, in order."""

    async def close(self) -> None:
        """Close every connection."""
