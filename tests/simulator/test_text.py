"""Answers are made up, but always in the same way."""

import json
from typing import Any

import pytest

from routing.simulator.text import Wish, compose, count_tokens, example

GREEDY = Wish(model="small:1b", prompt="Why?", temperature=0)


def ask(**changes: Any) -> Any:
    return compose(Wish(**{"model": "small:1b", "prompt": "Why?", "temperature": 0, **changes}))


def test_temperature_zero_repeats_itself_everywhere() -> None:
    assert compose(GREEDY) == compose(GREEDY)
    # The very words matter: a second process, or a second host, has to say the same.
    assert ask(limit=6).text == "Memory between over about often or"


def test_another_model_or_prompt_answers_otherwise() -> None:
    texts = {ask().text, ask(prompt="How?").text, ask(model="other:1b").text}
    assert len(texts) == 3


def test_a_temperature_varies_the_answer_and_a_seed_pins_it() -> None:
    assert len({ask(temperature=1).text for _ in range(8)}) > 1
    assert ask(temperature=1, seed=5).text == ask(temperature=1, seed=5).text
    assert ask(temperature=1, seed=5).text != ask(temperature=1, seed=6).text


@pytest.mark.parametrize("limit", [1, 5, 15])
def test_a_limit_is_reached_exactly_and_said(limit: int) -> None:
    answer = ask(limit=limit)
    assert (answer.count, answer.done_reason) == (limit, "length")
    assert ask().text.startswith(answer.text)


def test_an_answer_shorter_than_its_limit_stops_by_itself() -> None:
    answer = ask(limit=4000)
    assert answer.done_reason == "stop"
    assert 16 <= answer.count < 129
    assert ask(natural=7).count == 7


def test_the_limit_counts_thinking_too() -> None:
    free = ask(think=True)
    assert free.thinking
    short = ask(think=True, limit=len(free.thinking) + 3)
    assert (len(short.tokens), short.done_reason) == (3, "length")
    assert ask(think=True, limit=2).tokens == ()
    assert ask(think=True, limit=free.count - 1).done_reason == "length"
    assert ask(think=True, limit=free.count).done_reason == "stop"


def test_a_prefilled_answer_is_continued_where_it_fits() -> None:
    text = ask().text
    assert text[:20] + ask(prefill=text[:20]).text == text
    assert ask(prefill="Something else").text == text


def test_a_stop_sequence_ends_the_answer_even_inside_a_token() -> None:
    text = ask().text
    answer = ask(stop=("never there", text[9:14]))
    assert answer.text == text[: text.index(text[9:14])]
    assert answer.done_reason == "stop"


def test_json_is_asked_for_with_or_without_a_schema() -> None:
    assert json.loads(ask(schema=True).text) == {}
    schema = {"type": "object", "properties": {"n": {"type": "number"}, "l": {"type": "array"}}}
    assert json.loads(ask(schema=schema).text) == {"n": 1.5, "l": ["simulated"]}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": 4}, 4),
        ({"enum": ["a", "b"]}, "a"),
        ({"enum": "nonsense", "type": ["null", "string"]}, None),
        ({"type": "object", "properties": ["nonsense"]}, {}),
        ({"type": []}, "simulated"),
        ("nonsense", "simulated"),
    ],
)
def test_a_schema_may_be_odd_but_has_an_example(schema: Any, value: Any) -> None:
    assert example(schema) == value


def test_tokens_are_counted_by_length() -> None:
    assert [count_tokens(text) for text in ("", "abcd", "abcde")] == [0, 1, 2]
