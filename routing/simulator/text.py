"""Deterministic answers: what a simulated model says, thinks, calls and embeds."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from zlib import crc32

import msgspec

VOCABULARY = (
    "the a model answer question time part memory request system value number way result which"
    " can often shows gives needs before after while because short clear simple local next first"
    " small large given known about between under over and or but so then thus also here there"
)
WORDS = tuple(VOCABULARY.split())
# One long sequence drawn once; every answer is a slice, so composing one costs microseconds.
RING_TOKENS = 8192
LONGEST_TOKENS = 4096
PLAIN_VALUES: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "null": None}
BYTES_PER_TOKEN = 4  # the usual rule of thumb for English text


def _ring() -> tuple[str, ...]:
    draw = random.Random(20260101)  # noqa: S311 - repeatable text, no secret
    tokens = [" " + draw.choice(WORDS) for _ in range(RING_TOKENS)]
    tokens[9::11] = [token + "." for token in tokens[9::11]]
    return tuple(
        token.title() if before.endswith(".") else token
        for before, token in pairwise([".", *tokens])
    )


RING = _ring()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shapes an answer, in either protocol's terms reduced to one form."""

    model: str
    prompt: str  # everything the model reads, as one text
    prefill: str = ""  # text of the answer that the caller has already
    temperature: float = 0.8
    seed: int | None = None
    limit: int = -1  # tokens; negative: as long as the model likes
    natural: int | None = None  # tokens; None: varies with the prompt
    stop: tuple[str, ...] = ()
    schema: Any = None  # None: prose; True: any JSON object; a dict: a JSON schema
    think: bool = False
    tools: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in tokens; thinking and calls are counted as generated tokens too."""

    tokens: tuple[str, ...]
    done_reason: str  # "stop" or "length"
    thinking: tuple[str, ...] = ()
    calls: tuple[dict[str, Any], ...] = ()  # {"name": str, "arguments": dict}

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def count(self) -> int:
        return len(self.tokens) + len(self.thinking) + len(self.calls)


def count_tokens(text: str) -> int:
    return -(-len(text) // BYTES_PER_TOKEN)


def compose(wish: Wish) -> Answer:
    """Return the answer; at temperature 0, or with a seed, the same wish has the same answer."""
    key = _key(wish)
    if wish.tools:
        return Answer((), "stop", calls=(_call(wish.tools[0]),))
    thinking = _prose(key ^ 0x7E57, 8 + key % 24) if wish.think else ()
    tokens = _content(wish, key)
    room = len(thinking) + len(tokens) if wish.limit < 0 else wish.limit
    reason = "stop" if len(thinking) + len(tokens) <= room else "length"
    kept = tokens[: max(0, room - len(thinking))]
    return _stopped(Answer(kept, reason, thinking[:room]), wish.stop)


def _key(wish: Wish) -> int:
    """Return the number that decides the text; random only where sampling would be."""
    salt = 0
    if wish.temperature > 0:
        salt = random.getrandbits(32) if wish.seed is None else wish.seed
    return crc32(f"{wish.model}\0{wish.prompt}\0{salt}".encode())


def _content(wish: Wish, key: int) -> tuple[str, ...]:
    if wish.schema is not None:
        schema = wish.schema if isinstance(wish.schema, dict) else {"type": "object"}
        return _pieces(msgspec.json.encode(example(schema)).decode())
    tokens = _prose(key, 16 + key % 113 if wish.natural is None else wish.natural)
    if wish.prefill:
        return _after(tokens, wish.prefill)
    return tokens


def _prose(key: int, length: int) -> tuple[str, ...]:
    start = key % (RING_TOKENS - LONGEST_TOKENS)
    tokens = RING[start : start + min(length, LONGEST_TOKENS)]
    return (tokens[0].lstrip().capitalize(), *tokens[1:]) if tokens else ()


def _after(tokens: tuple[str, ...], prefill: str) -> tuple[str, ...]:
    """Return the tokens that follow what the caller has; all of them if it is another text."""
    text = "".join(tokens)
    return _pieces(text[len(prefill) :]) if text.startswith(prefill) else tokens


def _pieces(text: str) -> tuple[str, ...]:
    return tuple(text[at : at + BYTES_PER_TOKEN] for at in range(0, len(text), BYTES_PER_TOKEN))


def _stopped(answer: Answer, stop: tuple[str, ...]) -> Answer:
    """Cut the answer before the first stop sequence, which is never part of it."""
    if not stop:
        return answer
    text = answer.text
    ends = [at for at in map(text.find, filter(None, stop)) if at >= 0]
    if not ends:
        return answer
    kept: list[str] = []
    left = min(ends)
    for token in answer.tokens:
        if left <= 0:
            break
        kept.append(token[:left])
        left -= len(token)
    return Answer(tuple(kept), "stop", answer.thinking)


def _call(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function") or {}
    arguments = example(function.get("parameters") or {"type": "object"})
    return {"name": str(function.get("name", "")), "arguments": arguments}


def example(schema: Any) -> Any:
    """Return the plainest value that the JSON schema's types, enums and constants allow."""
    if not isinstance(schema, dict):
        return "simulated"
    if "const" in schema:
        return schema["const"]
    if isinstance(choices := schema.get("enum"), list) and choices:
        return choices[0]
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties")
        properties = properties if isinstance(properties, dict) else {}
        return {name: example(each) for name, each in properties.items()}
    if kind == "array":
        return [example(schema.get("items", {}))]
    return PLAIN_VALUES.get(str(kind), "simulated")


def embedding(model: str, text: str, dimensions: int) -> list[float]:
    """Return a vector of length 1, the same for the same model and text."""
    draw = random.Random(crc32(f"{model}\0{text}".encode())).random  # noqa: S311 - repeatable
    values = [draw() - 0.5 for _ in range(dimensions)]
    norm = sum(value * value for value in values) ** 0.5
    return [value / norm for value in values]
