"""Whatever is sent, the answer is one that the table declares, and never a fault of ours."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from routing.engine.catalog import COMPLEXITIES, PRIORITIES, QUALITY_TIERS, TASK_TYPES
from routing.lanes.table import BY_ROUTE, Lane
from routing.simulator.course import Simulator
from routing.simulator.server import running
from tests.cast import ALPHA, BETA, CATALOGUE, CHAIN, VECTORS, document, priced
from tests.lanes.stage import CHAT, ROUTE, SELECT, Heard, Stage, at, staged

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)


@st.composite
def fields(draw: Any, needed: dict[str, Any], optional: dict[str, Any]) -> Any:
    """Return a body with these fields; one in three is spoilt in one place."""
    body = draw(st.fixed_dictionaries(needed, optional=optional))
    spoilt = draw(st.integers(0, 5))
    if spoilt == 0:
        body[draw(st.sampled_from(sorted({**needed, **optional})))] = draw(anything)
    elif spoilt == 1:
        body[draw(st.text())] = draw(anything)
    return body


tasks = st.sampled_from(TASK_TYPES)
text = st.text(max_size=20)
wishes = {
    "complexity": st.sampled_from(COMPLEXITIES),
    "priority": st.sampled_from(PRIORITIES),
    "maxTokens": st.integers(-1, 10_000),
    "costLimit": st.floats(-1, 10),
    "qualityRequirement": st.sampled_from(QUALITY_TIERS),
}
selects = fields(
    {"taskType": tasks}, {"requirements": fields({}, wishes), "explain": st.booleans()}
)
routes = fields(
    {"taskType": tasks, "prompt": text},
    {
        "requirements": fields({}, {**wishes, "temperature": st.floats(-1, 3)}),
        "retryAttempts": st.integers(-1, 21),
        "explain": st.booleans(),
    },
)
parts = st.lists(fields({"type": st.just("text")}, {"text": text}), max_size=2)
functions = fields({"name": text, "arguments": text}, {})
messages = fields(
    {"role": st.sampled_from(("system", "user", "assistant", "tool"))},
    {
        "content": text | parts,
        "tool_calls": st.lists(fields({"function": functions}, {"id": text}), max_size=1),
    },
)
formats = ("text", "json_object", "json_schema")
chats = fields(
    {
        "model": st.sampled_from(("auto", "auto:analysis", "alpha:1b", "beta:1b", "beta")),
        "messages": st.lists(messages, min_size=1, max_size=2),
    },
    {
        "stream": st.booleans(),
        "stream_options": fields({}, {"include_usage": st.booleans()}),
        "max_tokens": st.integers(0, 20),
        "temperature": st.floats(0, 2),
        "stop": text | st.lists(text, max_size=2),
        "response_format": fields({"type": st.sampled_from(formats)}, {}),
        "tools": st.lists(
            fields({"type": st.just("function")}, {"function": anything}), max_size=1
        ),
    },
)
CASES = ((SELECT, selects), (ROUTE, routes), (CHAT, chats))
many = settings(max_examples=120, deadline=None)
some = settings(max_examples=50, deadline=None)


class World:
    """A stage with an instant simulator behind it, on a loop that outlives the examples."""

    def __init__(self, directory: Path, url: str, kind: str) -> None:
        models = (ALPHA, priced(BETA, "0.002"), priced(VECTORS, None))
        policy = document(models, (at(url, provider=kind),), chains=(CHAIN,))
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.stage: Stage = self._runner.run(
            self._stack.enter_async_context(staged(directory, policy))
        )

    def send(self, path: str, body: bytes) -> Heard:
        heard = self._runner.run(self.stage.send(path, body))
        # The simulator refuses some requests in ways that would close it for the next example.
        for live in self.stage.runtime.state.live:
            live.breaker.reset()
        return heard

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


@pytest.fixture(scope="module", params=["ollama", "openai"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with running(Simulator(CATALOGUE, instant=True)) as url:
        made = World(tmp_path_factory.mktemp("spool"), url, request.param)
        yield made
        made.close()


def check(lane: Lane, heard: Heard) -> None:
    """Hold an answer against the table."""
    assert heard.status == 200 or heard.status in lane.errors
    assert heard.status != 500
    if heard.headers["content-type"].startswith("text/event-stream"):
        assert lane.streams
        assert heard.events[-1] == "[DONE]" or "error" in heard.events[-1]
        return
    kind = lane.response if heard.status == 200 else lane.error
    jsonschema.validate(heard.json, msgspec.json.schema(kind))
    # Fields that no contract names have no place in an answer either.
    msgspec.json.decode(heard.body, type=kind)


def is_valid(lane: Lane, body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=lane.request)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


@pytest.mark.parametrize(("path", "bodies"), CASES, ids=["select", "route", "chat"])
def test_any_body_that_is_nearly_right(
    world: World, path: str, bodies: st.SearchStrategy[Any]
) -> None:
    lane = BY_ROUTE["POST", path]

    @many
    @given(bodies)
    def hold(body: Any) -> None:
        raw = msgspec.json.encode(body)
        heard = world.send(path, raw)
        event(f"{heard.status}")
        check(lane, heard)
        if not is_valid(lane, raw):
            assert heard.status == 400
        records = world.stage.records()
        assert len(records) <= 1
        if heard.status == 200:
            assert [r.status for r in records] == [200]
        assert world.stage.quiet()

    hold()


@pytest.mark.parametrize("path", [SELECT, ROUTE, CHAT])
def test_anything_at_all(world: World, path: str) -> None:
    @some
    @given(anything.map(msgspec.json.encode) | st.binary())
    def hold(body: bytes) -> None:
        heard = world.send(path, body)
        assert heard.status == 400
        check(BY_ROUTE["POST", path], heard)

    hold()
