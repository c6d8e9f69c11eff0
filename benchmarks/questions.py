"""Real questions with known answers: which of several models got each one right, and how long it
spoke. Read from the files that `make savings DATA=…` is given; nothing of them is kept.
"""

import csv
import gzip
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from routing.engine.catalog import TaskType

# Characters a token, as the data's own notes measured it for these questions.
CHARS_PER_TOKEN = 4.3
STRONG, WEAK = "gpt-4-1106-preview", "Mixtral-8x7B-Instruct-v0.1"
# A question's task type by its data set and subject; what is left is a matter of knowledge.
REASONING = ("math", "physics", "chemistry", "engineering", "algebra", "statistics", "logic")
ANALYSIS = ("law", "moral", "economics", "business", "history", "psychology", "philosophy",
            "policy", "politics", "accounting", "security", "marketing")  # fmt: skip
CODE = ("code", "crux", "computer", "programming")


class BadData(Exception):
    """Raised where the data cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one model did: whether it was right, and the tokens of its answer."""

    correct: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class Question:
    """One question and every model's outcome; the prompt itself is not kept."""

    id: str
    task: TaskType
    prompt_tokens: int
    outcomes: dict[str, Outcome]

    @property
    def is_for_calibration(self) -> bool:
        """Return whether it belongs to the half that capability records are made of.

        By the id, so that a question met twice is in one half only, the same one in every run.
        """
        return hashlib.sha256(self.id.encode()).digest()[0] % 2 == 0


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions of one file; `left_out` had no result for some model."""

    name: str
    models: tuple[str, ...]
    questions: tuple[Question, ...]
    left_out: int


def read_all(named: str) -> list[Questions]:
    """Return the questions of every file in a directory, by name; raises BadData."""
    if not named:
        raise BadData("say where the questions are: make savings DATA=directory.")
    directory = Path(named)
    if not directory.is_dir():
        raise BadData(
            f"{directory} is not a directory; give the one with the questions (DATA=directory)."
        )
    paths = sorted(p for p in directory.iterdir() if p.name.endswith((".csv", ".csv.gz")))
    if not paths:
        raise BadData(f"{directory} holds no .csv or .csv.gz file; see docs/savings.md.")
    return [_read(path) for path in paths]


def _read(path: Path) -> Questions:
    csv.field_size_limit(1 << 24)
    try:
        with _opened(path) as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            models = _models(path, names)
            rows = [_question(path, number, row, models) for number, row in enumerate(reader, 2)]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as exc:
        raise BadData(f"{path} cannot be read: {exc}; is it whole?") from exc
    questions = tuple(question for question in rows if question is not None)
    if not questions:
        raise BadData(f"{path} has no question with a result of every model.")
    name = path.name.removesuffix(".gz").removesuffix(".csv")
    return Questions(name, models, questions, len(rows) - len(questions))


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _models(path: Path, names: Iterable[str]) -> tuple[str, ...]:
    columns = set(names)
    if {"strong_score", "weak_score"} <= columns:
        return (STRONG, WEAK)
    models = tuple(sorted(name[3:] for name in columns if name.startswith("ok:")))
    wanted = {"id", "dataset", "subject", "prompt_chars", *(f"out_chars:{m}" for m in models)}
    if not models or not wanted <= columns:
        lacking = ", ".join(sorted(wanted - columns)) or "ok:<model>"
        raise BadData(f"{path} has no column {lacking}; see docs/savings.md for the columns.")
    return models


def _question(
    path: Path, number: int, row: dict[str, str], models: tuple[str, ...]
) -> Question | None:
    """Return a row as a question; None where some model has no result."""
    try:
        outcomes = {model: _outcome(row, model) for model in models}
        told = {model: outcome for model, outcome in outcomes.items() if outcome is not None}
        if len(told) < len(models):
            return None
        task = task_of(row["dataset"], row["subject"])
        return Question(row["id"], task, _tokens(row["prompt_chars"]), told)
    except (KeyError, ValueError, TypeError) as exc:
        raise BadData(f"{path}, row {number}: {exc!r}; is the file whole?") from exc


def _outcome(row: dict[str, str], model: str) -> Outcome | None:
    if "strong_score" in row:
        side = "strong" if model == STRONG else "weak"
        score, chars = row[f"{side}_score"], row[f"{side}_out_chars"]
    else:
        score, chars = row[f"ok:{model}"], row[f"out_chars:{model}"]
    # Answers without a length are the single letter of a choice.
    return None if score == "" else Outcome(float(score) >= 0.5, _tokens(chars or "1"))


def _tokens(chars: str) -> int:
    return max(1, -(-int(int(chars) * 10) // int(CHARS_PER_TOKEN * 10)))


def task_of(dataset: str, subject: str) -> TaskType:
    """Return the task type a caller would state for such a question."""
    named = f"{dataset} {subject}".lower()
    if any(word in named for word in CODE):
        return "code"
    if "gsm8k" in named or any(word in named for word in REASONING):
        return "reasoning"
    return "analysis" if any(word in named for word in ANALYSIS) else "completion"
