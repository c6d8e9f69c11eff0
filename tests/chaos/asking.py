"""The callers of the availability test: each knows what a right answer is, and judges its own."""

import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from routing.simulator.asking import Options, wish_for
from routing.simulator.models import Model
from routing.simulator.text import compose
from tests.chaos import client
from tests.chaos.client import Exchange


class Verdict(StrEnum):
    """What a caller got; the last three must never happen."""

    COMPLETE = "complete"
    REFUSED = "explicit error"
    HUNG = "hang"
    TRUNCATED = "truncated success"
    CORRUPT = "corrupt or doubled text"


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer claims: who said it, what, and under which id."""

    model: str
    text: str
    request_id: str


class NotWhole(Exception):
    """Raised when an answer says that it succeeded, and lacks its end."""


@dataclass(slots=True)
class Tally:
    """All verdicts, and how long complete answers took."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    by_way: Counter[tuple[str, Verdict]] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    # Ids of every request that the service answered, well or not: each must be recorded once.
    answered: set[str] = field(default_factory=set)
    errors: Counter[str] = field(default_factory=Counter)
    oddities: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return self.verdicts.total()

    @property
    def complete_share(self) -> float:
        return self.verdicts[Verdict.COMPLETE] / max(1, self.asked)


class Callers:
    """Asks the service in every way there is; answers of models not in `models` are corrupt."""

    def __init__(self, url: str, models: dict[str, Model], limit_s: float, seed: int) -> None:
        self.tally = Tally()
        self.ways: dict[str, Way] = {
            "select": self._select,
            "route": self._route,
            "chat": self._chat,
            "chat stream": self._chat_stream,
        }
        self._url = url
        self._models = models
        self._limit_s = limit_s
        self._dice = random.Random(seed)  # noqa: S311 - repeatable load
        self._count = 0

    async def warm_up(self) -> None:
        """Ask once in each way while all is well: what fails now is not the trouble's doing."""
        seen = await self._route_stream("Are you there?")
        if seen.status == 200:
            self.ways["route stream"] = self._route_stream
        for name, ask in self.ways.items():
            exchange = await ask("Are you there?")
            verdict = self._judge(name, "Are you there?", exchange)
            assert verdict is Verdict.COMPLETE, f"{name}: {verdict}: {exchange.body.decode()}"

    async def one(self) -> None:
        """Ask once, in a way drawn by lot, and judge the answer."""
        self._count += 1
        name = self._dice.choice(list(self.ways))
        prompt = f"Question {self._count} of {self._dice.getrandbits(32)}?"
        exchange = await self.ways[name](prompt)
        verdict = self._judge(name, prompt, exchange)
        self.tally.verdicts[verdict] += 1
        self.tally.by_way[name, verdict] += 1
        if verdict is Verdict.COMPLETE:
            self.tally.took_s.append(exchange.took_s)
        elif verdict is Verdict.REFUSED:
            self.tally.errors[_error_code(exchange)] += 1
        elif len(self.tally.oddities) < 20:
            told = f"{name}: {verdict} after {exchange.took_s:.1f} s, status {exchange.status}"
            self.tally.oddities.append(f"{told}: {bytes(exchange.body[-300:])!r}")

    def _judge(self, way: str, prompt: str, exchange: Exchange) -> Verdict:
        if exchange.timed_out:
            return Verdict.HUNG
        try:
            said = _READERS[way](exchange)
        except NotWhole:
            return Verdict.TRUNCATED
        if said is None:
            if request_id := _id_of_refusal(exchange):
                self.tally.answered.add(request_id)
            return Verdict.REFUSED
        self.tally.answered.add(said.request_id)
        if way == "select":
            return Verdict.COMPLETE if said.model in self._models else Verdict.CORRUPT
        return _compared(said.text, self._expected(said.model, prompt))

    def _expected(self, name: str, prompt: str) -> set[str]:
        """Return what the model says to the prompt, in a chat as outside."""
        model = self._models.get(name)
        if model is None:
            return set()
        return {compose(wish_for(model, Options(temperature=0), prompt)).text}

    # -- the ways --------------------------------------------------------------------------------

    async def _select(self, prompt: str) -> Exchange:
        return await self._post("/api/v1/ai/select-model", {"taskType": "completion"})

    async def _route(self, prompt: str) -> Exchange:
        return await self._post("/api/v1/ai/route-request", _routed(prompt))

    async def _route_stream(self, prompt: str) -> Exchange:
        body = _routed(prompt) | {"stream": True}
        return await self._post("/api/v1/ai/route-request", body)

    async def _chat(self, prompt: str) -> Exchange:
        return await self._post("/v1/chat/completions", _chatted(prompt))

    async def _chat_stream(self, prompt: str) -> Exchange:
        return await self._post("/v1/chat/completions", _chatted(prompt) | {"stream": True})

    async def _post(self, path: str, body: dict[str, Any]) -> Exchange:
        return await client.post(f"{self._url}{path}", body, self._limit_s)


Way = Callable[[str], Awaitable[Exchange]]


def _routed(prompt: str) -> dict[str, Any]:
    return {"taskType": "completion", "prompt": prompt, "requirements": {"temperature": 0}}


def _chatted(prompt: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": "auto", "messages": messages, "temperature": 0}


def _compared(text: str, expected: set[str]) -> Verdict:
    if text in expected:
        return Verdict.COMPLETE
    cut = any(right.startswith(text) for right in expected)
    return Verdict.TRUNCATED if cut else Verdict.CORRUPT


# -- reading answers; None: an explicit error ----------------------------------------------------


def _whole_json(exchange: Exchange) -> dict[str, Any] | None:
    if exchange.status != 200 or not exchange.whole:
        return None
    found = exchange.json()
    if not isinstance(found, dict):
        raise NotWhole
    return found


def _read_select(exchange: Exchange) -> Said | None:
    found = _whole_json(exchange)
    return None if found is None else Said(found["selectedModel"], "", found["requestId"])


def _read_route(exchange: Exchange) -> Said | None:
    found = _whole_json(exchange)
    if found is None:
        return None
    return Said(found["selectedModel"], found["response"], found["requestId"])


def _read_chat(exchange: Exchange) -> Said | None:
    found = _whole_json(exchange)
    if found is None:
        return None
    [choice] = found["choices"]
    if choice["finish_reason"] not in ("stop", "length"):
        raise NotWhole
    return Said(found["model"], choice["message"]["content"], exchange.headers["x-request-id"])


def _read_chat_stream(exchange: Exchange) -> Said | None:
    """Read OpenAI's events; an error event is an explicit error, a missing end is not.

    Nor is a connection that breaks off unnoticed by a caller's HTTP client.
    """
    events = exchange.events()
    if exchange.status != 200 or not (exchange.whole or "[DONE]" in events):
        return None
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    if any("error" in chunk for chunk in chunks):
        if "[DONE]" in events:
            raise NotWhole
        return None
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    ended = any(choice.get("finish_reason") for choice in choices)
    if not ended or events[-1] != "[DONE]":
        raise NotWhole
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return Said(chunks[-1]["model"], text, exchange.headers["x-request-id"])


def _read_route_stream(exchange: Exchange) -> Said | None:
    """Read route-request's own events; the last one is the answer as it would be unstreamed."""
    told = [json.loads(event) for event in exchange.events()]
    last = told[-1] if told else {}
    if exchange.status != 200 or "code" in last or not (exchange.whole or "response" in last):
        return None
    if "response" not in last:
        raise NotWhole
    text = "".join(each.get("text", "") for each in told)
    # If the two differ neither may pass for right.
    text = text if text == last["response"] else f"{text} | {last['response']}"
    return Said(last["selectedModel"], text, last["requestId"])


_READERS: dict[str, Callable[[Exchange], Said | None]] = {
    "select": _read_select,
    "route": _read_route,
    "route stream": _read_route_stream,
    "chat": _read_chat,
    "chat stream": _read_chat_stream,
}


def _id_of_refusal(exchange: Exchange) -> str:
    """Return the request's id from the header, the body or the last event; empty without any."""
    if id_ := exchange.headers.get("x-request-id"):
        return id_
    return str(_last_word(exchange).get("requestId", ""))


def _last_word(exchange: Exchange) -> dict[str, Any]:
    """Return the answer's JSON, or that of its last event; empty if there is neither."""
    events = [event for event in exchange.events() if event.startswith("{")]
    found = json.loads(events[-1]) if events else exchange.json()
    return found if isinstance(found, dict) else {}


def _error_code(exchange: Exchange) -> str:
    """Return the stable code of an error in any of the shapes there are."""
    last = _last_word(exchange)
    code = last.get("error", last).get("code")
    return str(code) if code else f"broken off ({exchange.status})"
