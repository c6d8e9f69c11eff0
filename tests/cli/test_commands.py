"""Every command: what it asks, what it prints, how it exits."""

import json

import pytest

from tests.cli import bodies
from tests.cli.conftest import Run
from tests.cli.service import Reply, Request, Service, json_reply

ASKING = [
    (("select", "completion"), bodies.SELECTION),
    (("route", "completion", "Hello"), bodies.ROUTED),
    (("models",), bodies.MODELS),
    (("resources",), bodies.RESOURCES),
    (("budgets",), bodies.BUDGETS),
    (("breakers",), bodies.BREAKERS),
    (("limits",), bodies.LIMITS),
    (("breakers", "reset", "--all"), {"reset": []}),
    (("health",), bodies.HEALTH),
    (("costs",), bodies.COSTS),
    (("savings", "--by", "day"), bodies.SAVINGS),
]


@pytest.mark.parametrize(("arguments", "body"), ASKING, ids=lambda value: str(value)[:20])
def test_json_is_the_body_unchanged(
    run: Run, service: Service, arguments: tuple[str, ...], body: object
) -> None:
    raw = b' { "odd" :  "spacing",\n' + json.dumps(body, ensure_ascii=False).encode()[1:]
    service.replies = {"*": Reply(raw)}
    result = run(*arguments, "--json")
    assert (result.code, result.err) == (0, "")
    assert result.out == raw.decode() + "\n"


def test_status_joins_health_and_models(run: Run) -> None:
    result = run("status", "--json")
    assert json.loads(result.out) == {"health": bodies.HEALTH, "models": bodies.MODELS}


def test_status_is_short_by_default(run: Run) -> None:
    result = run("status")
    assert result.code == 0
    assert result.out.splitlines() == [
        "Status           healthy",
        "Services         database ok, redis ok, ollama ok",
        "Memory pressure  0.42 normal",
        "",
        "1 of 2 models healthy",
    ]


def test_status_verbose_with_models_shows_every_figure(run: Run, service: Service) -> None:
    out = run("status", "--verbose", "--models").out
    for shown in ("12.2 GB", "7.5 %", "1.0.0", service.url, "llama3.2:3b", "812.4", "99.5 %"):
        assert shown in out


def test_health_names_what_is_down_and_tells_times_in_utc(run: Run) -> None:
    lines = run("health").out.splitlines()
    assert "Endpoint ollama   up, version 0.12.3" in lines
    assert "Endpoint backup   down: refused" in lines
    assert "At                2026-10-02 08:30:00" in lines


def test_models_show_where_and_in_what_state(run: Run) -> None:
    header, first = run("models").out.splitlines()[:2]
    assert header.split() == ["MODEL", "STATE", "BREAKER", "LOADED", "TIER", "SPEED", "ENDPOINTS"]
    assert " ".join(first.split()) == "llama3.2:3b healthy closed yes good fast ollama, backup"


def test_models_are_aligned(run: Run) -> None:
    lines = run("models", "--include-metrics").out.splitlines()
    header, first, second = lines[:3]
    assert header.index("STATE") == first.index("healthy") == second.index("unavailable")
    assert header.index("REQUESTS") + len("REQUESTS") == first.index("1,200") + len("1,200")
    assert second.endswith("–")


def test_models_asks_for_metrics_only_when_told(run: Run, service: Service) -> None:
    run("models")
    run("models", "--include-metrics")
    assert [request.target.partition("?")[2] for request in service.requests] == [
        "includeMetrics=false",
        "includeMetrics=true",
    ]


def test_select_sends_every_flag(run: Run, service: Service) -> None:
    arguments = "--complexity moderate --priority high --cost-limit 0.5 --max-tokens 50"
    run("select", "code", *arguments.split(), "--quality", "exceptional", "--explain")
    assert service.requests == [
        Request(
            "POST",
            "/api/v1/ai/select-model",
            {
                "taskType": "code",
                "requirements": {
                    "complexity": "moderate",
                    "priority": "high",
                    "costLimit": 0.5,
                    "maxTokens": 50,
                    "qualityRequirement": "exceptional",
                },
                "explain": True,
            },
        )
    ]


def test_select_sends_nothing_that_was_not_given(run: Run, service: Service) -> None:
    run("select", "code")
    assert service.requests[0].payload == {"taskType": "code"}


def test_select_prints_the_choice_and_its_metrics(run: Run) -> None:
    out = run("select", "completion").out
    for shown in ("llama3.2:3b", "mistral:7b, phi3:mini", "fast", "0.85 high", "4.5 GB", "req-1"):
        assert shown in out
    assert "Because           score 0.81, best of 2\n" in out
    assert "Simulated         yes\n" in out
    assert "Degraded" not in out


def test_select_explains_every_candidate(run: Run) -> None:
    header, best, refused = run("select", "completion", "--explain").out.splitlines()[-3:]
    assert header.split()[:3] == ["MODEL", "ENDPOINT", "TOTAL"]
    assert best.split()[:5] == ["llama3.2:3b", "ollama", "0.81", "0.50", "1.00"]
    assert best.split()[-1] == "2,140"
    assert refused.endswith("memory_fit: needs 42.0 GB, 9.6 GB may be used")
    assert refused.index("memory_fit") == header.index("REJECTED")


def test_route_sends_every_flag(run: Run, service: Service) -> None:
    arguments = "--max-tokens 50 --temperature 0 --retry-attempts 0 --priority critical"
    run("route", "completion", *arguments.split(), "Hello, world!")
    assert service.requests[0].payload == {
        "taskType": "completion",
        "prompt": "Hello, world!",
        "requirements": {"maxTokens": 50, "temperature": 0.0, "priority": "critical"},
        "retryAttempts": 0,
    }


def test_route_prints_the_answer_first(run: Run) -> None:
    lines = run("route", "completion", "Hello").out.splitlines()
    assert lines[:3] == ["Grüße, 世界!", "Second line.", ""]
    assert "Model             mistral:7b" in lines
    assert "Degraded          yes" in lines
    assert "Cost              0.000012 USD" in lines


def test_route_reads_the_prompt_from_standard_input(run: Run, service: Service) -> None:
    run("route", "completion", "-", stdin="– a list\n".encode())
    assert service.requests[0].payload == {"taskType": "completion", "prompt": "– a list\n"}


def test_route_takes_a_prompt_that_looks_like_an_option(run: Run, service: Service) -> None:
    run("route", "completion", "--", "--help")
    assert service.requests[0].payload == {"taskType": "completion", "prompt": "--help"}


def test_resources_asks_for_history_only_when_told(run: Run, service: Service) -> None:
    run("resources")
    run("resources", "--hours", "3")
    assert [request.target.partition("?")[2] for request in service.requests] == [
        "",
        "hours=3&includeHistory=true",
    ]


def test_resources_averages_a_long_history_into_a_screenful(run: Run) -> None:
    lines = run("resources", "--hours", "1").out.splitlines()
    rows = lines[lines.index("") + 2 :]
    assert rows[0].split()[:3] == ["2026-10-02", "08:00:00", "0.80"]
    assert rows[13] == "60 samples in the last 1 h, averaged into 12 rows."


def test_resources_sums_the_requests_up(run: Run) -> None:
    lines = run("resources", "--hours", "1").out.splitlines()
    assert lines[-8:-3] == [
        "Requests   200",
        "Success    99.0 %",
        "Fallbacks  4",
        "Tokens     3,000",
        "Cost       0.5000 USD",
    ]
    assert lines[-1].split() == ["ollama-local", "4", "3", "4", "1,200", "ms"]


@pytest.mark.parametrize(
    ("status", "http", "code"),
    [("healthy", 200, 0), ("degraded", 200, 0), ("unhealthy", 503, 1), ("unhealthy", 200, 1)],
)
@pytest.mark.parametrize("command", ["health", "status"])
def test_health_decides_the_exit_code(
    run: Run, service: Service, command: str, status: str, http: int, code: int
) -> None:
    service.replies["/api/v1/health"] = json_reply(bodies.HEALTH | {"status": status}, http)
    result = run(command)
    assert (result.code, result.err) == (code, "")
    assert status in result.out


def test_version_tells_both(run: Run, service: Service) -> None:
    told = {"cli": "1.0.0", "service": "1.0.0", "api": "v1", "url": service.url}
    assert json.loads(run("version", "--json").out) == told
    assert run("--version").out == "ai-orchestra 1.0.0\n"


def test_version_needs_no_service(run: Run) -> None:
    result = run("version", "--url", "http://127.0.0.1:1")
    assert (result.code, result.err) == (0, "")
    assert "unknown at http://127.0.0.1:1" in result.out


def test_help_lists_every_command(run: Run) -> None:
    overview, everything = run("help").out, run("help", "--all").out
    for name in ("status", "help", "version", "select", "route", "models", "resources", "health"):
        assert f"  {name} " in overview
        assert f"usage: ai-orchestra {name}" in everything


@pytest.mark.parametrize("arguments", [("help", "--command", "select"), ("select", "--help")])
def test_help_of_one_command(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.code == 0
    assert "--cost-limit USD" in result.out


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",), ("-h",)])
def test_the_overview_is_what_is_shown_without_a_command(
    run: Run, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (0, run("help").out)


def test_global_options_stand_before_or_after_the_command(run: Run, service: Service) -> None:
    elsewhere = "http://127.0.0.1:1"
    before = run("--url", service.url, "--timeout", "5", "health", ORCHESTRA_URL=elsewhere)
    after = run("health", "--url", service.url, "--timeout", "5", ORCHESTRA_URL=elsewhere)
    assert before.code == after.code == 0


def test_the_port_may_come_from_the_environment(run: Run, service: Service) -> None:
    port = service.url.rpartition(":")[2]
    assert run("health", ORCHESTRA_URL="", API_PORT=port).code == 0


def test_a_path_in_the_address_is_kept(run: Run, service: Service) -> None:
    service.replies = {"/behind/proxy/api/v1/health": json_reply(bodies.HEALTH)}
    assert run("health", "--url", f"{service.url}/behind/proxy/").code == 0


def test_budgets_show_what_is_spent_held_and_left(run: Run) -> None:
    header, row, _, last = run("budgets").out.splitlines()
    assert header.split()[0] == "BUDGET"
    for word in ("team", "tenant acme", "41.20", "41.2 %", "0.012500", "2026-12-01"):
        assert word in row
    assert last == "0 of 1 budgets used up"


def test_resources_tell_of_answers_beyond_what_was_held(run: Run, service: Service) -> None:
    path = "/api/v1/ai/resources/metrics"
    assert "beyond what was held" not in run("resources").out
    told = {"count": 1200, "overrunUsd": 0.25, "workers": 2}
    service.replies[path] = json_reply({**bodies.RESOURCES, "overruns": told})
    last = run("resources").out.splitlines()[-1]
    assert last == "1,200 answers beyond what was held, by $0.250000"
