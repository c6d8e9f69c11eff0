"""Faults at random points, over many seeds: whole and right, or an error in time; never between."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from msgspec.json import decode, encode
from msgspec.structs import replace

from routing.engine.catalog import DEFAULT_PROFILES
from routing.engine.durations import LEAST
from routing.engine.errors import (
    ConnectFailed,
    MalformedAnswer,
    ProviderError,
    RefusedByUpstream,
    StreamCut,
    UpstreamBusy,
    UpstreamFault,
)
from routing.lanes import limits
from routing.providers.base import Answer, Call, Piece, Provider, Usage
from tests.cast import CLOUD, HERE, document, model
from tests.lanes.stage import CHAT, ROUTE, Caller, Heard, Stage, staged

WORDS = [f"w{n} " for n in range(8)]
RIGHT = "".join(WORDS)
OTHERWISE = "".join(w.upper() for w in WORDS)
FOR_EVER = 30.0
DEADLINE_MS = 300
Fault = Literal["none", "cut", "silence", "keep-alive", "refuse", "connect", "busy", "endless"]
FAULTS: tuple[Fault, ...] = (
    "none", "none", "none", "cut", "silence", "keep-alive", "refuse", "connect", "busy", "endless",
)  # fmt: skip
PROFILE = replace(DEFAULT_PROFILES[1], deadline_ms=DEADLINE_MS)
MODELS = tuple(model(name, accepts_prefill=name != "b") for name in ("a", "b", "c"))


@dataclass
class Fake:
    """An upstream whose calls meet faults drawn by a seed; counts the calls that are open."""

    name: str
    dice: Random
    open: int = 0
    calls: list[Call] = field(default_factory=list)

    def _meet(self, fault: Fault) -> ProviderError:
        said = f"Endpoint '{self.name}' met {fault}."
        kinds: dict[str, ProviderError] = {
            "cut": StreamCut(self.name, said),
            "connect": ConnectFailed(self.name, said),
            "busy": UpstreamBusy(self.name, said, retry_after_s=self.dice.choice([None, 0.0, 9.0])),
            "refuse": RefusedByUpstream(self.name, said, status=400),
        }
        made = self.dice.choice([UpstreamFault(self.name, said), MalformedAnswer(self.name, said)])
        return kinds.get(fault, made)

    async def complete(self, call: Call) -> Answer:
        fault = self.dice.choice(FAULTS)
        self.open += 1
        try:
            await asyncio.sleep(0)
            if fault in ("silence", "keep-alive", "endless"):
                await asyncio.sleep(FOR_EVER)
            if fault != "none":
                raise self._meet(fault)
            return Answer(text=self._text(call), usage=Usage(3, 8))
        finally:
            self.open -= 1

    async def embed(self, call: Call) -> Answer:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is held."""

    def _text(self, call: Call) -> str:
        return RIGHT[len(call.prefill) :] if RIGHT.startswith(call.prefill) else "?"

    async def stream(self, call: Call) -> AsyncIterator[Piece]:
        self.calls.append(call)
        self.open += 1
        try:
            async for piece in self._pieces(call):
                yield piece
        finally:
            self.open -= 1

    async def _pieces(self, call: Call) -> AsyncIterator[Piece]:
        whole = RIGHT if call.prefill or self.dice.random() < 0.6 else OTHERWISE
        if call.prefill and OTHERWISE.startswith(call.prefill):
            whole = OTHERWISE
        rest = whole[len(call.prefill) :]
        fault, at = self.dice.choice(FAULTS), self.dice.randrange(len(rest) + 1)
        for n, part in enumerate(self._cut_up(rest)):
            await asyncio.sleep(0)
            if fault != "none" and n >= at // 3:
                async for piece in self._fail(fault):
                    yield piece
            yield Piece(text=part)
            if self.dice.random() < 0.2:
                yield Piece()
        yield Piece(finish_reason="stop")
        if self.dice.random() < 0.5:
            yield Piece(usage=Usage(3, 8))
        if self.dice.random() < 0.3:
            await asyncio.sleep(FOR_EVER)  # no end marker

    async def _fail(self, fault: Fault) -> AsyncIterator[Piece]:
        if fault == "silence":
            await asyncio.sleep(FOR_EVER)
        while fault in ("keep-alive", "endless"):
            await asyncio.sleep(0.002)
            yield Piece(thinking=fault == "endless")
        raise self._meet(fault)

    def _cut_up(self, text: str) -> Iterator[str]:
        at = 0
        while at < len(text):
            end = at + self.dice.randint(1, 6)
            yield text[at:end]
            at = end


@pytest.fixture(params=[0, 100], ids=["one-by-one", "hedged"])
async def played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Stage, dict[str, Fake]]]:
    """Three models at two endpoints whose times are counted in hundredths of a second."""
    monkeypatch.setattr(limits, "FIRST_TOKEN_S", 0.03)
    monkeypatch.setattr(limits, "BETWEEN_TOKENS_S", 0.03)
    monkeypatch.setattr(limits, "AFTER_FINISH_S", 0.02)
    monkeypatch.setattr(limits, "SLOW_ANSWER_FACTOR", 0.0)
    fakes = {name: Fake(name, Random(0)) for name in ("cloud", "here")}  # noqa: S311 - repeatable
    profile = replace(PROFILE, hedge_percent=request.param)
    policy = document(MODELS, (CLOUD, replace(HERE, host="")), profiles=(profile,))
    async with staged(tmp_path / "spool", policy) as stage:
        stage.runtime.provider = lambda candidate: provider(fakes[candidate.endpoint_name])  # type: ignore[method-assign]
        for live in stage.runtime.state.live:
            for _ in range(LEAST):
                live.answer_times.add(1.0)
                live.first_token_times.add(1.0)
        yield stage, fakes


def provider(fake: Fake) -> Provider:
    return fake


def body(seed: int, dice: Random) -> tuple[str, dict[str, Any]]:
    more = {"stream": seed % 4 != 0, "commit": dice.choice(["first_token", "complete"])}
    if seed % 2:
        return ROUTE, {"taskType": "completion", "prompt": "x", **more}
    return CHAT, {"model": "auto", "messages": [{"role": "user", "content": "x"}], **more}


SEEDS, AT_ONCE = 240, 20
LATE_S = 0.25  # how much later than its deadline an answer may be on a busy machine


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
async def test_whole_and_right_or_an_error_in_time(
    played: tuple[Stage, dict[str, Fake]], first: int
) -> None:
    stage, fakes = played
    for name, fake in fakes.items():
        fake.dice.seed(f"{first} {name}")
    dice = Random(first)  # noqa: S311 - repeatable, no secret
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(
            *(play(stage, seed, dice) for seed in range(first, first + AT_ONCE))
        )
    assert all(outcomes), outcomes
    assert stage.quiet()
    await asyncio.gather(*stage.runtime.ending)
    assert [fake.open for fake in fakes.values()] == [0, 0]
    records = stage.records()
    assert len(records) == AT_ONCE
    for record in records:
        answered = [a for a in record.attempts if not a.error_type]
        if record.error_type == "caller_left":
            # Some leave between the model's last word and their own.
            assert len(answered) <= 1
        else:
            assert len(answered) == (1 if record.success else 0)
    # Nobody met so many faults that nothing was tried.
    assert any(record.success for record in records)


async def play(stage: Stage, seed: int, dice: Random) -> str:
    """Send one request and return how it ended; fail if it ended badly."""
    path, asked = body(seed, dice)
    caller, heard = Caller([encode(asked)]), Heard()
    leaves = asyncio.get_running_loop().call_later(
        dice.random() * 0.02 if seed % 5 == 0 else FOR_EVER, caller.leave
    )
    async with asyncio.timeout(DEADLINE_MS / 1000 + LATE_S):
        await stage.call(path, caller, heard)
    leaves.cancel()
    if not heard.ended:
        assert seed % 5 == 0
        return "left"
    if heard.status != 200:
        assert heard.status >= 400
        return "refused"
    return told_in_events(heard) if asked["stream"] else told_whole(heard.json)


def told_whole(said: Any) -> str:
    text = said["response"] if "response" in said else said["choices"][0]["message"]["content"]
    assert text == RIGHT
    return "whole"


def told_in_events(heard: Heard) -> str:
    text, end = "", ""
    for event in heard.body.decode().split("\n\n")[:-1]:
        if event.startswith(":"):
            continue  # a comment, which says that the request waits for its place
        assert not end, "something follows the end"
        data = event.rpartition("data: ")[2]
        said = {} if data == "[DONE]" else decode(data)
        if data == "[DONE]" or event.startswith("event: done"):
            end = "whole"
        elif "error" in said or event.startswith("event: error"):
            end = "broken"
        text += said.get("text") or "".join(
            c["delta"].get("content", "") for c in said.get("choices", ())
        )
    assert RIGHT.startswith(text) or OTHERWISE.startswith(text), text
    assert end
    assert end == "broken" or text in (RIGHT, OTHERWISE), text
    return end
