"""Faults to switch on while the simulator runs, and who they strike."""

import random
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Kind = Literal[
    "http_error",  # an error status, at once
    "delay",  # the answer begins late, then all is well
    "silence",  # nothing more, for ever; the connection stays open
    "cut",  # the connection is closed without a proper end
    "reset",  # the connection is dropped with a TCP reset
    "error_line",  # {"error": …} inside a 200
    "html",  # a proxy's error page
    "malformed_json",  # a body, or one line of a stream, that is no JSON
    "no_end",  # a stream that ends politely, without its end marker
    "short_body",  # fewer bytes than content-length says
]
INFERENCE_PATHS = frozenset(
    {
        "/api/generate",
        "/api/chat",
        "/api/embed",
        "/api/embeddings",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
    }
)
# These replace the whole answer, whatever `after_tokens` says.
BEFORE_ANSWER: frozenset[Kind] = frozenset({"http_error", "html"})


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule: what goes wrong, for whom, how often. Durations in milliseconds."""

    kind: Kind
    model: str = "*"
    path: str = ""  # "": every inference path; "*": every path; else exactly this one
    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0
    count: Annotated[int, Meta(ge=1)] | None = None  # strikes before it wears off
    after_tokens: Annotated[int, Meta(ge=0)] = 0
    delay_ms: Annotated[float, Meta(ge=0)] = 1000.0
    status: Annotated[int, Meta(ge=400, le=599)] = 500
    body: str | None = None  # None: the protocol's own error body with `message`
    message: str = "simulated fault"
    retry_after_s: Annotated[int, Meta(ge=0)] | None = None

    def concerns(self, path: str, model: str) -> bool:
        if self.model not in ("*", model):
            return False
        return path in INFERENCE_PATHS if not self.path else self.path in ("*", path)


class FaultBoard:
    """The rules in force, in order, and how often each has struck."""

    def __init__(self, seed: int = 0) -> None:
        self.rules: tuple[Fault, ...] = ()
        self.strikes: list[int] = []
        self._draw = random.Random(seed).random  # noqa: S311 - repeatable faults, no secret

    def replace(self, rules: tuple[Fault, ...]) -> None:
        self.rules = rules
        self.strikes = [0] * len(rules)

    def strike(self, path: str, model: str) -> tuple[float, Fault | None]:
        """Return the delay in seconds and the fault that hit this request.

        All delays that apply add up; of the other faults the first that strikes is the one.
        """
        delay_ms = 0.0
        for index, rule in enumerate(self.rules):
            if not self._hits(index, rule, path, model):
                continue
            self.strikes[index] += 1
            if rule.kind != "delay":
                return delay_ms / 1000, rule
            delay_ms += rule.delay_ms
        return delay_ms / 1000, None

    def _hits(self, index: int, rule: Fault, path: str, model: str) -> bool:
        if not rule.concerns(path, model):
            return False
        if rule.count is not None and self.strikes[index] >= rule.count:
            return False
        return rule.probability >= 1 or self._draw() < rule.probability
