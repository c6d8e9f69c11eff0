"""Each broken promise is found: the judge of the books is itself tried."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.chaos import told
from tests.chaos.audit import Account, Books
from tests.chaos.damage import PLANTED
from tests.chaos.killing import Filled, Trouble
from tests.chaos.told import Tally, Told
from tests.chaos.verdict import MOST_GROWN_MIB, Result, show
from tests.chaos.watch import MIB, Seen

ID = "01a209d0-54a5-74da-ae90-3e176491c6a{}"
GHOSTS = Counter({f"req-{n}": 1 for n in range(PLANTED)})
KEPT = Counter({ID.format(n): 1 for n in range(3)})
ROWS = PLANTED + 3
FULL = Filled({"not_ready: the disk is full"}, recovered=True)
BOOKS = Books(
    rows=ROWS,
    ids=KEPT,
    ghosts=GHOSTS,
    cost=90,
    sums={"minute": (ROWS, 90), "hour": (ROWS, 90)},
    accounts=[Account("tenant-a", spent=90, held=0, recorded=90)],
    backlog_bytes=0,
    corrupt=3,
    settled_s=1.0,
)


def result(books: Books = BOOKS, **more: Any) -> Result:
    """Return a run in which two were answered, one was refused and nothing went wrong."""
    trouble = Trouble(cast(Any, None), cast(Any, None), random.Random(1), 1.0)  # noqa: S311
    trouble.ghosts = trouble.spliced = 1
    trouble.filled = more.pop("filled", [FULL])
    answers = Told(
        answered={ID.format(0), ID.format(1)},
        refused=Counter({"503 not_ready": 1}),
        refused_ids={ID.format(2)},
    )
    given: dict[str, Any] = {"reported": 3, "seen": Seen(), **more}
    return Result(answers, 1.0, trouble, books, at_length=True, **given)


def test_books_that_agree_have_no_fault() -> None:
    assert result().faults == []
    assert "| rows missing; doubled | 0; 0 |" in show(result())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"ids": Counter({ID.format(0): 1, ID.format(2): 1})}, "1 answered requests"),
        ({"ids": KEPT + Counter({ID.format(1): 1})}, "1 records are there twice"),
        ({"ids": KEPT + Counter({ID.format(9): 1})}, "1 records of 0 requests without"),
        ({"ghosts": GHOSTS - Counter({"req-1": 1})}, "1 records beside damage"),
        ({"backlog_bytes": 7}, "7 bytes were never shipped"),
        ({"corrupt": 2}, "2 of 3 damaged pieces were set aside"),
        ({"sums": {"hour": (ROWS - 1, 90)}}, "the sums by the hour"),
        ({"sums": {"day": (ROWS, 89)}}, "the sums by the day"),
        ({"accounts": [Account("a", spent=89, held=0, recorded=90)]}, "a: 89 spent, 90"),
        ({"accounts": [Account("a", spent=90, held=5, recorded=90)]}, "a: 5 nano-dollars"),
        ({"accounts": []}, "no budget counted anything"),
    ],
)
def test_books_that_do_not_agree_have_one(changes: dict[str, Any], fault: str) -> None:
    (found,) = result(replace(BOOKS, **changes)).faults
    assert found.startswith(fault)


def test_what_the_service_does_not_tell_of_is_a_fault() -> None:
    grown = Seen()
    grown.memory("conductor", 50 * MIB)
    grown.memory("conductor", int((51 + MOST_GROWN_MIB) * MIB))
    for more, fault in (
        ({"reported": 0}, "0 of 3 damaged pieces were reported"),
        ({"filled": [Filled(set(), recovered=True)]}, "on a full disk callers were not told so"),
        ({"filled": [Filled(FULL.said)]}, "with room on the disk again, callers were refused"),
        ({"seen": grown}, "conductor grew by 129 MiB"),
    ):
        assert result(**more).faults == [fault]


def test_callers_write_down_what_they_were_told(tmp_path: Path) -> None:
    path = tmp_path / "told"
    body = b'{"requestId":"%s","selectedModel":"a"}' % ID.format(1).encode()
    refusal = b'{"code":"not_ready","requestId":"%s"}' % ID.format(2).encode()
    notes = [told.line(200, body), told.line(503, refusal), told.line(502, b"<html>")]
    path.write_bytes(b"".join([*notes, b'{"asked":4,"unanswered":1}\n']))
    found = told.read(path)
    assert found.answered == {ID.format(1)}
    assert found.refused == {"503 not_ready": 1, "502 no_json": 1}
    assert (found.refused_ids, found.nameless) == ({ID.format(2)}, 1)
    assert found.tally == Tally(asked=4, unanswered=1)
    path.write_bytes(notes[0])
    with pytest.raises(ValueError, match="before the callers did"):
        told.read(path)
