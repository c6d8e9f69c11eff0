"""What callers may ask for, in either protocol, reduced to what the simulator works with."""

import re
from typing import Any, TypeVar

import msgspec

from routing.simulator.course import Refused, Simulator
from routing.simulator.models import Model
from routing.simulator.text import Wish

DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|ms|s|m|h)")
UNIT_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
SMALLEST_CONTEXT = 4  # Ollama's floor

T = TypeVar("T")


class Options(msgspec.Struct, frozen=True):
    """The options that change a simulated answer; like Ollama, unknown names are ignored."""

    num_ctx: float | None = None
    num_predict: float | None = None
    seed: float | None = None
    temperature: float | None = None
    stop: list[str] | None = None


class Message(msgspec.Struct, frozen=True):
    """One message of a chat; OpenAI's content may be a list of parts."""

    role: str = ""
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


def decode(body: bytes, kind: type[T]) -> T:
    """Return the request; raises Refused (400) naming the field that does not fit."""
    if not body.strip():
        raise Refused(400, "missing request body")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Refused(400, str(exc)) from exc


def seconds(value: float | str | None) -> float | None:
    """Return a keep-alive in seconds: a number, or Go's notation such as "1h30m" or "-1s"."""
    if not isinstance(value, str):
        return value
    unsigned = value.removeprefix("-")
    parts = DURATION.findall(unsigned)
    if "".join(number + unit for number, unit in parts) != unsigned or not parts:
        raise Refused(400, f'time: invalid duration "{value}"')
    total = sum(float(number) * UNIT_S[unit] for number, unit in parts)
    return -total if value.startswith("-") else total


def context_of(sim: Simulator, model: Model, options: Options) -> int:
    """Return the context to load the model with; never more than it was trained for."""
    asked = int(options.num_ctx) if options.num_ctx else sim.catalogue.host.num_ctx
    return min(max(asked, SMALLEST_CONTEXT), model.context_length)


def conversation(messages: list[Message]) -> tuple[str, str]:
    """Return what the model reads, and the beginning of its answer if the caller gave one."""
    prefill = ""
    if messages and messages[-1].role == "assistant" and not messages[-1].tool_calls:
        *messages, last = messages
        prefill = last.text
    if [message.role for message in messages] == ["user"]:
        # Ollama puts the prompt of /api/generate into the same template as a chat's one message.
        return messages[0].text, prefill
    return "\n".join(f"{message.role}: {message.text}" for message in messages), prefill


def wish_for(model: Model, options: Options, prompt: str, **more: Any) -> Wish:
    """Return the wish; the limit follows Ollama: zero and less mean as long as it likes."""
    limit = int(options.num_predict or -1)
    return Wish(
        model=model.name,
        prompt=prompt,
        temperature=0.8 if options.temperature is None else options.temperature,
        seed=None if options.seed is None else int(options.seed),
        limit=limit if limit > 0 else -1,
        natural=model.answer_tokens,
        stop=tuple(options.stop or ()),
        **more,
    )


def fit(tokens: int, num_ctx: int, *, truncate: bool) -> int:
    """Return how many tokens are read; a longer prompt loses its beginning, or is refused."""
    if tokens > num_ctx and not truncate:
        raise Refused(400, "the input length exceeds the context length")
    return min(tokens, num_ctx)
