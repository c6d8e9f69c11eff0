"""`breakers`: what it shows, whom it resets, and what it refuses."""

import pytest

from tests.cli.conftest import Run
from tests.cli.service import Request, Service, json_reply

RESET = "/api/v1/ai/breakers/reset"


def test_each_has_a_row_with_its_reason_and_times(run: Run) -> None:
    header, first, second, _, last = run("breakers").out.splitlines()
    assert header.index("STATE") == first.index("open") == second.index("closed")
    times = ("2026-11-26 20:31:15", "2026-11-26 20:31:00")
    assert all(shown in first for shown in ("codellama:7b", "upstream_timeout", *times))
    assert last == "1 of 2 breakers open"


@pytest.mark.parametrize(
    ("arguments", "payload"),
    [
        (("codellama:7b",), {"model": "codellama:7b"}),
        (("codellama:7b@ollama",), {"model": "codellama:7b", "endpoint": "ollama"}),
        (("@ollama",), {"endpoint": "ollama"}),
        (("--all",), {"all": True}),
    ],
)
def test_a_reset_asks_for_what_was_named(
    run: Run, service: Service, arguments: tuple[str, ...], payload: object
) -> None:
    result = run("breakers", "reset", *arguments)
    assert (result.code, result.out) == (0, "codellama:7b@ollama reset\n")
    assert service.requests == [Request("POST", RESET, payload)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reset",), "Give MODEL, MODEL@ENDPOINT or @ENDPOINT, or else --all"),
        (("reset", "m", "--all"), "or else --all"),
        (("reset", "@"), "or else --all"),
        (("--all",), "breakers reset --all"),
        (("rset", "m"), "did you mean 'reset'?"),
    ],
)
def test_what_is_not_clear_resets_nothing(
    run: Run, service: Service, arguments: tuple[str, ...], said: str
) -> None:
    result = run("breakers", *arguments)
    assert result.code == 2
    assert said in result.err
    assert service.requests == []


def test_a_model_that_does_not_exist_is_named(run: Run, service: Service) -> None:
    detail = "No enabled model is called codelama; did you mean codellama:7b?"
    errors = [{"pointer": "/model", "detail": detail}]
    problem = {"title": "The request is not valid", "status": 400, "errors": errors}
    service.replies[RESET] = json_reply(problem, 400)
    result = run("breakers", "reset", "codelama")
    assert result.code == 2
    assert f"MODEL: {detail}" in result.err
