"""What callers were told, as a process of callers writes it down and others read it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

ID = b'"requestId":"'
ID_LENGTH = 36


class Tally(msgspec.Struct):
    """What a process of callers counted; its last line."""

    asked: int = 0
    late: int = 0  # requests of the pace that nobody was free to ask
    unanswered: int = 0  # connections that broke with a request under way
    silent: int = 0  # of those: given up by the caller
    brisk_s: int = 0  # seconds in which nearly all of the pace got answers of any kind


@dataclass(slots=True)
class Told:
    """What the callers were told."""

    answered: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)  # by status and code
    refused_ids: set[str] = field(default_factory=set)
    nameless: int = 0  # refusals without an id: of those nobody can tell which record is theirs
    tally: Tally = field(default_factory=Tally)

    @property
    def refusals(self) -> int:
        return sum(self.refused.values())


def line(status: int, body: bytes) -> bytes:
    """Return the note of one answer: its status, its code and the request's id; `-` for none."""
    if status == 200:
        return b"200 - %s\n" % (_id(body) or b"-")
    return b"%d %s %s\n" % (status, _code(body), _id(body) or b"-")


def read(path: Path) -> Told:
    """Return what a file of notes says; raises ValueError where its end is missing."""
    told = Told()
    with path.open("rb") as file:
        for note in file:
            if note.startswith(b"{"):
                told.tally = msgspec.json.decode(note, type=Tally)
                return told
            _add(told, *note.decode().split())
    raise ValueError(f"{path} ends before the callers did.")


def _add(told: Told, status: str, code: str, id_: str) -> None:
    if status == "200":
        # An answer without an id would be a record that nobody can look for.
        assert id_ != "-", "an answer has no id"
        told.answered.add(id_)
        return
    told.refused[f"{status} {code}"] += 1
    if id_ == "-":
        told.nameless += 1
    else:
        told.refused_ids.add(id_)


def _id(body: bytes) -> bytes:
    """Cut the id out of the JSON: reading all of it costs more than the rest of asking."""
    at = body.find(ID)
    return b"" if at < 0 else body[at + len(ID) : at + len(ID) + ID_LENGTH]


def _code(body: bytes) -> bytes:
    try:
        found = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return b"no_json"
    code = found.get("code") if isinstance(found, dict) else None
    return str(code or "no_code").replace(" ", "_").encode()
