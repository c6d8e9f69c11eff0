"""Two attempts that answer in the same moment, and callers who leave in it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from routing.engine.catalog import DEFAULT_PROFILES, Commit
from routing.engine.decide import decide
from routing.engine.durations import LEAST
from routing.engine.need import Need
from routing.lanes.execute import Job, Stream, Trail, complete, open_stream
from routing.lanes.runtime import Runtime
from routing.providers.base import Answer, Call, Piece, Provider
from tests.cast import ALPHA, CLOUD, document
from tests.lanes.stage import SetStage, Stage
from tests.waiting import soon


@dataclass
class Waiting:
    """An upstream that answers when told; counts the calls that are open."""

    name: str
    go: "asyncio.Future[None]"
    open: int = 0
    ends_at_once: bool = True

    async def complete(self, call: Call) -> Answer:
        self.open += 1
        try:
            await asyncio.shield(self.go)
            return Answer(text=self.name)
        finally:
            self.open -= 1

    async def stream(self, call: Call) -> AsyncIterator[Piece]:
        self.open += 1
        try:
            await asyncio.shield(self.go)
            yield Piece(text=self.name)
            await asyncio.sleep(0 if self.ends_at_once else 30)
            yield Piece(finish_reason="stop")
        finally:
            self.open -= 1

    async def embed(self, call: Call) -> Answer:
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is held."""


@dataclass
class Play:
    """A request that is asked of `a`, and soon of `b` as well."""

    stage: Stage
    go: "asyncio.Future[None]"
    fakes: dict[str, Waiting]

    @property
    def runtime(self) -> Runtime:
        return self.stage.runtime

    def job(self, commit: Commit = "first_token") -> Job:
        runtime = self.runtime
        need = Need(task="completion", max_tokens=8)
        return Job(
            decision=decide(runtime.policy, runtime.state, need, runtime.clock()),
            call_for=lambda candidate: Call(model=candidate.model_name, prompt="x"),
            deadline=runtime.clock() + 5,
            deadline_ms=5000,
            commit=commit,
            trail=Trail(attempts=[], failures=[]),
        )

    def open(self) -> int:
        return sum(fake.open for fake in self.fakes.values())

    async def both_asked(self) -> None:
        await soon(lambda: self.open() == 2)

    async def quiet(self) -> None:
        await soon(lambda: self.open() == 0)
        assert self.stage.quiet()


@pytest.fixture
async def play(set_stage: SetStage) -> Play:
    places = tuple(replace(CLOUD, name=name) for name in "ab")
    profile = replace(DEFAULT_PROFILES[1], hedge_percent=100)
    stage = await set_stage(document((ALPHA,), places, profiles=(profile,)))
    for live in stage.runtime.state.live:
        for _ in range(LEAST):
            live.answer_times.add(1.0)
            live.first_token_times.add(1.0)
    go = asyncio.get_running_loop().create_future()
    fakes = {name: Waiting(name, go) for name in "ab"}
    stage.runtime.provider = lambda candidate: provider(fakes[candidate.endpoint_name])
    return Play(stage, go, fakes)


def provider(fake: Waiting) -> Provider:
    return fake


async def whole(play: Play, job: Job) -> str:
    return (await complete(play.runtime, job)).text


async def streamed(play: Play, job: Job) -> str:
    stream = await open_stream(play.runtime, job)
    # As a caller does who reads slowly: the loser is over long before the answer is.
    assert [a.error_type for a in job.trail.attempts][:1] == ["hedge_lost"]
    text = "".join([piece.text async for piece in stream.pieces()])
    await stream.close()
    return text


Ask = Callable[[Play, Job], Any]
WAYS = pytest.mark.parametrize(
    ("ask", "commit"),
    [(whole, "first_token"), (streamed, "first_token"), (streamed, "complete")],
    ids=["whole", "live", "held"],
)


@WAYS
async def test_of_two_answers_in_the_same_moment_one_counts(
    play: Play, ask: Ask, commit: Commit
) -> None:
    job = play.job(commit)
    asking = asyncio.create_task(ask(play, job))
    await play.both_asked()
    play.go.set_result(None)
    text = await asyncio.wait_for(asking, 2)
    attempts = {a.endpoint: a.error_type for a in job.trail.attempts}
    assert sorted(attempts.values()) == ["", "hedge_lost"]
    assert job.trail.answered_by is not None
    assert attempts[text] == ""
    assert job.trail.answered_by.endpoint_name == text
    await play.quiet()


@WAYS
async def test_an_answer_that_comes_as_its_caller_leaves_is_closed(
    play: Play, ask: Ask, commit: Commit
) -> None:
    job = play.job(commit)
    for fake in play.fakes.values():
        fake.ends_at_once = commit == "complete"
    asking = asyncio.create_task(ask(play, job))
    await play.both_asked()
    attempts = asyncio.all_tasks() - {asyncio.current_task(), asking}
    play.go.set_result(None)
    for _ in range(100):
        if any(task.done() for task in attempts):
            break
        await asyncio.sleep(0)
    assert not asking.done()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await play.quiet()


async def test_a_stream_is_closed_by_whoever_took_it(play: Play) -> None:
    play.fakes["a"].ends_at_once = False
    opening = asyncio.create_task(open_stream(play.runtime, play.job()))
    await play.both_asked()
    play.go.set_result(None)
    stream: Stream = await opening
    assert (await anext(stream.pieces())).text == stream.candidate.endpoint_name
    await stream.close()
    await play.quiet()
