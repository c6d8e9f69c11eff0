"""`make savings`: the replay says what its data say, the same in every run, or why it cannot."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.questions import read_all, task_of
from benchmarks.savings import main

CHEAP, DEAR = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"
COUNT = 200
UNKNOWN = {"ok:who": 1, "out_chars:who": 1}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with gzip.open(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def a_question(number: int, **changes: Any) -> dict[str, Any]:
    """One question that the dear model gets right, and the cheap one nine times of ten."""
    return {
        "id": f"q{number}", "dataset": "gsm8k", "subject": "grade_school_math", "source": "",
        "prompt": 'Several lines,\n"quoted".', "prompt_chars": 430,
        f"ok:{CHEAP}": int(number % 10 > 0), f"out_chars:{CHEAP}": 43,
        f"ok:{DEAR}": 1, f"out_chars:{DEAR}": 86, **changes,
    }  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    write(directory / "multi.csv.gz", [a_question(n) for n in range(COUNT)])
    return directory


def replayed(data: Path, tmp_path: Path, *more: str) -> list[dict[str, Any]]:
    out = tmp_path / "out.json"
    assert main(["--data", str(data), "--json", str(out), *more]) == 0
    found: list[dict[str, Any]] = json.loads(out.read_text())
    return found


def test_cost_and_quality_are_those_of_the_data(data: Path, tmp_path: Path) -> None:
    (found,) = replayed(data, tmp_path)
    by_name = {policy["policy"]: policy for policy in found["policies"]}
    strongest, frugal = by_name["always strongest"], by_name["ours, floor basic"]
    assert found["strongest"] == DEAR
    assert found["calibrated_on"] + found["replayed"] == COUNT
    assert (strongest["right_percent"], strongest["saved_percent"]) == (100.0, 0.0)
    # 100 tokens in, 20 out, at 2.50 and 10.00 dollars a million; and 10 out at 0.15 and 0.60.
    assert strongest["usd_per_1k"] == pytest.approx(0.45)
    assert frugal["usd_per_1k"] == pytest.approx(0.021)
    assert frugal["saved_percent"] == pytest.approx(95.33)
    asked = [q for q in read_all(str(data))[0].questions if not q.is_for_calibration]
    right = sum(q.outcomes[CHEAP].correct for q in asked) / len(asked)
    assert frugal["right_percent"] == pytest.approx(100 * right, abs=0.01)
    assert by_name["random"]["usd_per_1k"] == pytest.approx((0.45 + 0.021) / 2)


def test_the_better_the_floor_the_better_and_dearer(data: Path, tmp_path: Path) -> None:
    (found,) = replayed(data, tmp_path)
    ours = [p for p in found["policies"] if p["policy"].startswith("ours, floor")]
    assert [p["policy"].split()[-1] for p in ours] == ["exceptional", "high", "good", "basic"]
    for better, worse in zip(ours, ours[1:], strict=False):
        assert better["right_percent"] >= worse["right_percent"]
        assert better["usd_per_1k"] >= worse["usd_per_1k"]


def test_it_says_the_same_every_time(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for _ in range(2):
        replayed(data, tmp_path)
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "ours, floor high" in said[0]


def test_no_question_is_judged_by_a_record_it_helped_to_make(data: Path) -> None:
    again = [a_question(3), a_question(3, prompt_chars=9)]
    write(data / "multi.csv.gz", again)
    (found,) = read_all(str(data))
    assert len({q.is_for_calibration for q in found.questions}) == 1


def test_prices_can_be_others(data: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text(f"model,input_usd_per_million,output_usd_per_million\n{DEAR},0.01,0\n")
    (found,) = replayed(data, tmp_path, "--prices", str(prices))
    assert found["policies"][0]["usd_per_1k"] == pytest.approx(0.001)


def test_a_question_without_every_result_is_left_out(data: Path, tmp_path: Path) -> None:
    rows = [a_question(n) for n in range(COUNT)]
    rows[7][f"ok:{DEAR}"] = ""
    write(data / "multi.csv.gz", rows)
    (found,) = replayed(data, tmp_path)
    assert found["left_out"] == 1


def test_pairs_are_read_too(data: Path, tmp_path: Path) -> None:
    (data / "multi.csv.gz").unlink()
    rows: list[dict[str, Any]] = [
        {"id": n, "dataset": "mmlu", "subject": "law", "strong_score": 1, "weak_score": n % 2,
         "prompt_chars": 100, "strong_out_chars": "", "weak_out_chars": ""}
        for n in range(COUNT)
    ]  # fmt: skip
    write(data / "pair.csv.gz", rows)
    (found,) = replayed(data, tmp_path)
    tiers = {m["model"]: m["tier"] for m in found["models"]}
    assert tiers["gpt-4-1106-preview"] == "exceptional"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.unlink(), "holds no .csv or .csv.gz file"),
        (lambda file: file.write_bytes(file.read_bytes()[:300]), "is it whole?"),
        (lambda file: file.with_name("x.csv").write_text("a,b\n1,2\n"), "has no column"),
        (lambda file: file.with_name("x.csv").write_bytes(b"\xff\xfe\0"), "cannot be read"),
        (lambda file: write(file, [a_question(1, prompt_chars="many")]), "row 2"),
        (lambda file: write(file, [a_question(1, **{f"ok:{DEAR}": ""})]), "no question with a"),
        (lambda file: write(file, [a_question(1, **UNKNOWN)]), "No price is known for who"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    data: Path, capsys: pytest.CaptureFixture[str], spoil: Any, words: str
) -> None:
    spoil(data / "multi.csv.gz")
    assert main(["--data", str(data)]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


@pytest.mark.parametrize("where", ["", "missing", "data/multi.csv.gz"])
def test_what_is_no_directory_is_refused(
    data: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    assert main(["--data", where and str(data.parent / where)]) == 2
    assert "DATA=directory" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "model,input\nm,1\n", "{0}\nm,free,1\n", "{0}\nm,-1,1\n"])
def test_bad_prices_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text(text.format("model,input_usd_per_million,output_usd_per_million"))
    code = main(["--data", str(data), "--prices", str(prices)])
    assert code == (0 if text == "" else 2)
    if code:
        assert "input_usd_per_million" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "subject", "task"),
    [
        ("gsm8k", "grade_school_math", "reasoning"),
        ("crux", "code_execution", "code"),
        ("mmlu", "college_computer_science", "code"),
        ("mmlu", "professional_law", "analysis"),
        ("mmlu", "nutrition", "completion"),
    ],
)
def test_task_types(dataset: str, subject: str, task: str) -> None:
    assert task_of(dataset, subject) == task
