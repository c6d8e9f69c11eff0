"""`costs` and `savings`: what is asked for and what is shown."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.cli.conftest import Run
from tests.cli.service import Service, json_reply

HEAD = "MODEL"


def test_costs_by_group_and_in_total(run: Run) -> None:
    lines = run("costs").out.splitlines()
    assert lines[0].split()[:2] == [HEAD, "REQUESTS"]
    first = "llama3.2:3b 1,200 10 120,000 20,000 60,000 0.125000 7"
    assert " ".join(lines[1].split()) == first
    assert lines[2].split()[0] == "Total"
    assert "From 2026-11-01 00:00:00 to 2026-11-08 00:00:00 UTC" in lines
    assert "2 less costly groups are not shown; the total has them." in lines
    assert "Some answers came from the simulator." in lines


def test_savings_show_losses_and_what_is_estimated(run: Run) -> None:
    lines = run("savings").out.splitlines()
    assert (
        " ".join(lines[1].split()) == "– 11 1.500000 4.000000 2.500000 62.5 % 3.000000 -0.500000 3"
    )


@pytest.mark.parametrize("command", ["costs", "savings"])
def test_what_is_asked_for(run: Run, service: Service, command: str) -> None:
    run(command)
    run(
        command, "--by", "day", "--from", "2026-11-01", "--to", "2026-11-08T12:00:00+02:00",
        "--tenant", "a & b", "--model", "m:7b", "--task", "code",
    )  # fmt: skip
    asked = [parse_qs(urlsplit(request.target).query) for request in service.requests]
    assert asked == [
        {},
        {
            "groupBy": ["day"], "from": ["2026-11-01"], "to": ["2026-11-08T12:00:00+02:00"],
            "tenant": ["a & b"], "model": ["m:7b"], "task": ["code"],
        },
    ]  # fmt: skip


def test_a_refusal_names_the_option(run: Run, service: Service) -> None:
    problem = {
        "title": "The request is not valid.", "status": 400, "detail": "from: Ask for less.",
        "errors": [{"pointer": "/from", "detail": "Ask for less."}],
    }  # fmt: skip
    service.replies = {"*": json_reply(problem, 400)}
    result = run("costs", "--from", "2020-01-01")
    assert result.code == 2
    assert "--from: Ask for less." in result.err


def test_a_wrong_group_is_refused_here(run: Run, service: Service) -> None:
    result = run("savings", "--by", "teams")
    assert result.code == 2
    assert "is not one of tenant, model, task, day" in result.err
    assert service.requests == []
