"""Judges the books against what callers were told, and prints both."""

from dataclasses import dataclass

from benchmarks.report import machine, table
from tests.chaos.audit import Books
from tests.chaos.damage import PIECES, PLANTED
from tests.chaos.killing import Trouble
from tests.chaos.told import Told
from tests.chaos.watch import MIB, WORKERS, Seen

# How much processes may grow while records wait: by a few batches, never by the backlog.
MOST_GROWN_MIB = 128.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one run came to."""

    told: Told
    seconds: float
    trouble: Trouble
    books: Books
    seen: Seen
    reported: int  # damaged pieces, by the service's own health
    at_length: bool = False

    @property
    def killed(self) -> dict[str, int]:
        return dict(self.trouble.killed)

    @property
    def missing(self) -> int:
        """Return how many answered requests have no record."""
        return len(self.told.answered - self.books.ids.keys())

    @property
    def strays(self) -> int:
        """Return how many records are of requests whose callers were told nothing."""
        return len(self.books.ids.keys() - self.told.answered - self.told.refused_ids)

    @property
    def faults(self) -> list[str]:
        """Return which promises were broken."""
        return [*self._of_records(), *self._of_damage(), *self._of_sums(), *self._of_money(),
                *self._of_the_disk(), *self._of_memory()]  # fmt: skip

    def _of_records(self) -> list[str]:
        found = []
        if self.missing:
            found.append(f"{self.missing} answered requests have no record")
        if self.books.doubled:
            found.append(f"{self.books.doubled} records are there twice")
        # A request whose answer got lost may have a record or none.
        most = self.told.tally.unanswered + self.told.nameless
        if self.strays > most:
            found.append(f"{self.strays} records of {most} requests without an answer")
        if self.books.backlog_bytes:
            found.append(f"{self.books.backlog_bytes} bytes were never shipped")
        return found

    def _of_damage(self) -> list[str]:
        planted = PLANTED * self.trouble.ghosts
        pieces = PIECES * self.trouble.ghosts + self.trouble.spliced
        found = []
        if len(self.books.ghosts) != planted:
            lost = planted - len(self.books.ghosts)
            found.append(f"{lost} records beside damage were lost")
        if self.books.corrupt < pieces:
            found.append(f"{self.books.corrupt} of {pieces} damaged pieces were set aside")
        if self.reported < pieces:
            found.append(f"{self.reported} of {pieces} damaged pieces were reported")
        return found

    def _of_sums(self) -> list[str]:
        kept = (self.books.rows, self.books.cost)
        return [
            f"the sums by the {span} say {sums}, the records {kept} (requests, nano-dollars)"
            for span, sums in self.books.sums.items()
            if sums != kept
        ]

    def _of_money(self) -> list[str]:
        found = ["no budget counted anything"] if self.at_length and not self._spent else []
        for each in self.books.accounts:
            if each.spent != each.recorded:
                found.append(f"{each.budget}: {each.spent} spent, {each.recorded} recorded")
            if each.held:
                found.append(f"{each.budget}: {each.held} nano-dollars are held for nobody")
        return found

    @property
    def _spent(self) -> int:
        return sum(each.spent for each in self.books.accounts)

    def _of_the_disk(self) -> list[str]:
        found = []
        for filled in self.trouble.filled:
            if not filled.said:
                found.append("on a full disk callers were not told so")
            if not filled.recovered:
                found.append("with room on the disk again, callers were refused")
        return found

    def _of_memory(self) -> list[str]:
        grown = {name: self.seen.grown_mib(name) for name in WORKERS}
        return [f"{n} grew by {mib:.0f} MiB" for n, mib in grown.items() if mib > MOST_GROWN_MIB]


def show(result: Result, rate: float = 0.0) -> str:
    """Return the table of a run."""
    told, books, seen, trouble = result.told, result.books, result.seen, result.trouble
    asked = told.tally.asked
    rows: list[tuple[str, object]] = [
        ("seconds", f"{result.seconds:.0f}"),
        ("requests; a second", f"{asked:,}; {asked / result.seconds:,.0f}"),
        ("seconds at the full pace", told.tally.brisk_s),
        ("not asked: every caller was waiting", f"{told.tally.late:,}"),
        ("answered", f"{len(told.answered):,}"),
        *((f"refused: {kind}", f"{count:,}") for kind, count in told.refused.most_common()),
        ("connections that broke; given up", f"{told.tally.unanswered}; {told.tally.silent}"),
        ("killed", ", ".join(f"{n} {name}" for name, n in sorted(result.killed.items()))),
        ("rows", f"{books.rows:,}"),
        ("rows of requests without an answer", result.strays),
        ("rows missing; doubled", f"{result.missing}; {books.doubled}"),
        ("damaged pieces set aside; reported", f"{books.corrupt}; {result.reported}"),
        ("s PostgreSQL was away", f"{trouble.away_s:.0f}"),
        ("longest lag of rows, s; all in place after", f"{seen.lag_s:.0f}; {books.settled_s:.0f}"),
        ("most that waited in the spool, MiB", f"{seen.spool_bytes / MIB:.0f}"),
        *_disk_rows(trouble, at_length=result.at_length),
        *((f"{a.budget}: spent; rows; held, nano-dollars", f"{a.spent:,}; {a.recorded:,}; {a.held}")
          for a in books.accounts),
        *((f"{name}: PSS before; peak, MiB", _memory(seen, name)) for name in WORKERS),
    ]  # fmt: skip
    pace = f"{rate:g} requests a second" if rate else "as fast as answered"
    return table((f"books, {pace}, commit {machine()['commit']}", ""), rows)


def _disk_rows(trouble: Trouble, *, at_length: bool) -> list[tuple[str, object]]:
    if not trouble.filled:
        return [("disk full", "not tried: needs root")] if at_length else []
    said = sorted({words for filled in trouble.filled for words in filled.said})
    return [("disk full, times", len(trouble.filled)), ("… callers were told", " / ".join(said))]


def _memory(seen: Seen, name: str) -> str:
    return f"{seen.before.get(name, 0) / MIB:.0f}; {seen.peak.get(name, 0) / MIB:.0f}"
