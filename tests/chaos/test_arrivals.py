"""The made-up arrivals have the statistics of the recorded ones."""

import gzip
from pathlib import Path
from statistics import median

import pytest

from tests.chaos.arrivals import KINDS, NoTrace, bursty, recorded, variation

MANY = bursty(20_000, 1000, seed=1)


def test_gaps_vary_as_in_the_code_trace() -> None:
    assert variation(MANY) == pytest.approx(13.2, abs=1.5)


def test_sizes_are_those_of_the_code_trace() -> None:
    prompts = sorted(arrival.prompt_tokens for arrival in MANY)
    answers = sorted(arrival.answer_tokens for arrival in MANY)
    assert median(prompts) == pytest.approx(1469, rel=0.05)
    assert prompts[19_000] == pytest.approx(7303, rel=0.1)
    assert median(answers) == pytest.approx(13, abs=1)
    assert answers[19_000] == pytest.approx(90, rel=0.1)


def test_they_fill_the_time_given_and_are_the_same_for_a_seed() -> None:
    few = bursty(50, 10, seed=7)
    assert few[0].at_s == 0
    assert few[-1].at_s == pytest.approx(10)
    assert few == bursty(50, 10, seed=7)
    assert {arrival.kind for arrival in MANY} == set(KINDS)


TRACE = "arrival_s,service,context_tokens,generated_tokens\n0.5,conv,374,44\n3.0,code,1000,9\n"


def test_a_trace_is_spread_over_the_time_given(tmp_path: Path) -> None:
    plain, packed = tmp_path / "trace.csv", tmp_path / "trace.csv.gz"
    plain.write_text(TRACE)
    packed.write_bytes(gzip.compress(TRACE.encode()))
    found, lasted_s = recorded(plain, 10, seed=3)
    assert lasted_s == 2.5
    assert [(a.at_s, a.prompt_tokens, a.answer_tokens) for a in found] == [
        (0, 374, 44),
        (pytest.approx(10), 1000, 9),
    ]
    assert found[1].kind == "code"
    assert recorded(packed, 10, seed=3) == (found, lasted_s)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "two rows"),
        ("a,b\n1,2\n", "no column 'service'"),
        (TRACE.replace("374", "many"), "not understood"),
        (TRACE.replace("3.0", "0.5"), "order"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "trace.csv").write_text(text)
    with pytest.raises(NoTrace, match=said):
        recorded(tmp_path / "trace.csv", 10, seed=3)


def test_a_broken_or_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace.csv.gz").write_bytes(gzip.compress(TRACE.encode())[:20])
    for name in ("trace.csv.gz", "nowhere.csv"):
        with pytest.raises(NoTrace, match="cannot be read"):
            recorded(tmp_path / name, 10, seed=3)
