"""The made-up arrivals have the statistics of the recorded ones."""

from statistics import median

import pytest

from tests.chaos.arrivals import KINDS, bursty, variation

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
