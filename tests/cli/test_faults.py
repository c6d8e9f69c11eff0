"""What goes wrong is one clear message on standard error and an exit code, never a traceback."""

import json
import signal
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler

import pytest

from tests.cli import bodies
from tests.cli.conftest import SCRIPT, Run
from tests.cli.service import Reply, Service, json_reply
from tests.environment import outside


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("slect", "'slect' is not a command (did you mean 'select'?)"),
        ("help --command modles", "did you mean 'models'?"),
        ("select", "the following arguments are required: TASK_TYPE"),
        ("select compltion", "did you mean 'completion'?"),
        ("select code --complexity hard", "'hard' is not one of simple, moderate, complex"),
        ("select code --priorty high", "did you mean '--priority'?"),
        ("select code --cost-limit nan", "--cost-limit: 'nan' must be a number, 0 or more"),
        ("select code --cost-limit -1", "--cost-limit: '-1' must be a number, 0 or more"),
        ("select code --max-tokens 1.5", "--max-tokens: '1.5' must be a whole number, 1 or more"),
        ("route code", "the following arguments are required: PROMPT"),
        ("route code -", "PROMPT: must not be empty"),
        ("route code hi --temperature warm", "--temperature: 'warm' must be a number, 0 or more"),
        ("resources --hours 0", "--hours: '0' must be a whole number, 1 or more"),
        ("--timeout 0 health", "--timeout: '0' must be a number above 0"),
        ("--timeout 1e300 health", "--timeout: '1e300' must be a number above 0, at most 86400"),
        (f"health --url http://{'a' * 70}.org", "has no valid host name"),
        ("health --url http://host/p\u00e4th", "needs its path percent-encoded"),
        ("--jason health", "'--jason' is not expected here"),
        ("health surplus", "'surplus' is not expected here"),
        ("health --url", "--url: expected one argument"),
        ("health --url localhost:8080", "--url: 'localhost:8080' must begin with http://"),
        ("health --url ftp://host", "--url: 'ftp://host' must begin with http://"),
        ("health --url http://host:99999", "Port out of range"),
        ("health --url http://[::1", "is not a URL"),
        ("health --url http://:80", "needs a host"),
        ("health --url http://host/?a=b", "must end after the path"),
    ],
)
def test_a_wrong_command_line_is_named(run: Run, arguments: str, said: str) -> None:
    result = run(*arguments.split())
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("ai-orchestra: ")
    assert said in result.err


def test_a_wrong_variable_is_named(run: Run) -> None:
    wrong_url = run("health", ORCHESTRA_URL="orchestra")
    wrong_port = run("health", ORCHESTRA_URL="", API_PORT="80 80")
    assert (wrong_url.code, wrong_port.code) == (2, 2)
    assert "ORCHESTRA_URL: 'orchestra' must begin with http://" in wrong_url.err
    assert "API_PORT: '80 80' must be a port number" in wrong_port.err


def test_a_password_in_the_address_is_not_repeated(run: Run) -> None:
    result = run("health", "--url", "http://me:secret@host")
    assert result.code == 2
    assert "secret" not in result.err


@pytest.mark.parametrize(("prompt", "stdin"), [("-", b"ok \xff"), ("ok \udcff", b"")])
def test_a_prompt_must_be_utf8(run: Run, prompt: str, stdin: bytes) -> None:
    result = run("route", "code", prompt, stdin=stdin)
    assert (result.code, result.out) == (2, "")
    assert "byte 3 is not" in result.err


def test_nobody_listens(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    result = run("health", "--url", url)
    assert (result.code, result.out) == (3, "")
    assert f"Nothing listens at {url}. Start the service with 'ai-orchestra up'" in result.err


def test_the_name_does_not_resolve(run: Run) -> None:
    result = run("health", "--url", "http://no-such-host.invalid")
    assert result.code == 3
    assert "names a host that does not resolve" in result.err


def write_html(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n<h1>Bad</h1>")


def write_garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


def write_nothing(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def write_half(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"status":')


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(write=write_html), "answered 502 with text/html, not JSON"),
        (Reply(b"<h1>Hi</h1>", content_type="text/html; charset=utf-8"), "with text/html, not"),
        (Reply(b'{"status":'), "answered 200 with broken JSON, not JSON"),
        (Reply(b"[" * 100_000), "broken JSON"),
        (Reply(b"[1]"), "with JSON that is not an object"),
        (
            Reply(b"", status=302, headers={"Location": "/login"}),
            "answered 302 and points to /login",
        ),
        (Reply(write=write_garbage), "does not speak HTTP"),
        (Reply(write=write_nothing), "closed the connection before the answer was whole"),
        (Reply(write=write_half), "closed the connection before the answer was whole"),
    ],
)
def test_something_else_answers(run: Run, service: Service, reply: Reply, said: str) -> None:
    service.replies = {"*": reply}
    result = run("models")
    assert (result.code, result.out) == (3, "")
    assert said in result.err
    assert result.err.count("\n") == 1


def test_silence_ends_at_the_timeout(run: Run, service: Service) -> None:
    service.replies = {"*": Reply(write=lambda handler: _wait(service))}
    started = time.monotonic()
    result = run("models", "--timeout", "0.3")
    assert result.code == 3
    assert "gave no whole answer within 0.3 s. Allow more with --timeout" in result.err
    assert time.monotonic() - started < 5


def _wait(service: Service) -> None:
    service.released.wait(10)


def test_a_trickle_does_not_outlast_the_timeout(run: Run, service: Service) -> None:
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            if service.released.wait(0.05):
                return
            handler.wfile.write(b" ")

    service.replies = {"*": Reply(write=trickle)}
    result = run("models", "--timeout", "0.5")
    assert result.code == 3
    assert "gave no whole answer within 0.5 s" in result.err


def test_a_problem_names_field_and_remedy(run: Run, service: Service) -> None:
    service.replies = {"*": json_reply(bodies.PROBLEM, 422)}
    result = run("select", "code", "--max-tokens", "9999999")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        "ai-orchestra: Invalid request (422): 1 field is wrong.",
        "  --max-tokens: is more than any model can hold. Ask for at most 131072.",
        "  request req-3",
    ]


def test_a_detail_that_repeats_its_field_is_told_once(run: Run, service: Service) -> None:
    error = {"pointer": "/prompt", "detail": "Expected `str`.", "remedy": "Correct its type."}
    problem = {
        "title": "The request is not valid",
        "detail": "/prompt: Expected `str`. Correct its type.",
        "errors": [error],
    }
    service.replies = {"*": json_reply(problem, 400)}
    assert run("route", "code", "hi").err.splitlines() == [
        "ai-orchestra: The request is not valid (400).",
        "  PROMPT: Expected `str`. Correct its type.",
    ]


def test_every_candidate_of_a_failure_gives_its_reason(run: Run, service: Service) -> None:
    candidates = [
        {"model": f"m{n}", "endpoint": "e", "reason": "memory_fit", "detail": f"needs {n} GB"}
        for n in range(12)
    ]
    problem = {"title": "No model", "detail": "None fits.", "candidates": candidates}
    service.replies = {"*": json_reply(problem, 503)}
    lines = run("select", "code").err.splitlines()
    assert lines[:2] == ["ai-orchestra: No model (503): None fits.", "  m0 at e: needs 0 GB"]
    assert lines[-2:] == ["  m9 at e: needs 9 GB", "  and 2 more; --json shows all"]


def test_a_problem_in_json_goes_to_standard_output_unchanged(run: Run, service: Service) -> None:
    reply = json_reply(bodies.PROBLEM, 422)
    service.replies = {"*": reply}
    result = run("select", "code", "--json")
    assert result.code == 2
    assert result.out == reply.body.decode() + "\n"
    assert "--max-tokens: is more" in result.err


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (413, 2), (401, 4), (402, 4), (403, 4), (429, 4), (404, 1), (500, 1), (503, 1)],
)
def test_the_status_decides_the_exit_code(
    run: Run, service: Service, status: int, code: int
) -> None:
    service.replies = {"*": json_reply({"title": "No", "detail": "Because."}, status)}
    result = run("route", "code", "hi")
    assert result.code == code
    assert result.err == f"ai-orchestra: No ({status}): Because.\n"


def test_status_shows_the_health_even_when_the_models_cannot_be_listed(
    run: Run, service: Service
) -> None:
    away = {"title": "Unavailable", "detail": "The database does not answer."}
    service.replies["/api/v1/ai/models/status"] = json_reply(away, 503)
    unhealthy = bodies.HEALTH | {"status": "unhealthy"}
    service.replies["/api/v1/health"] = json_reply(unhealthy, 503)
    result = run("status", "--models")
    assert (result.code, result.err) == (1, "")
    assert result.out.startswith("Status           unhealthy\n")
    assert "The models cannot be listed: Unavailable (503): The database does" in result.out
    assert json.loads(run("status", "--json").out) == {"health": unhealthy, "models": away}


def test_when_to_come_back_is_told(run: Run, service: Service) -> None:
    service.replies = {"*": json_reply({"title": "No model"}, 503, Retry_After="7")}
    assert run("select", "code").err == "ai-orchestra: No model (503). Try again in 7 s.\n"


@pytest.mark.parametrize("body", [{}, {"models": [{}, 3]}, {"models": {"a": 1}}, {"errors": "no"}])
@pytest.mark.parametrize(
    "command",
    ["status --models --verbose", "models --include-metrics", "resources --hours 1", "select code"],
)
def test_a_body_of_another_shape_shows_dashes(
    run: Run, service: Service, command: str, body: object
) -> None:
    service.replies = {"*": json_reply(body)}
    result = run(*command.split())
    assert result.err == ""
    assert "–" in result.out


def test_an_answer_cannot_drive_the_terminal(run: Run, service: Service) -> None:
    service.replies = {
        "*": json_reply({"response": "a\x1b[2Jb\x9bc\r", "requestId": "\x1b]0;x\x07"})
    }
    out = run("route", "code", "hi").out
    assert "a\\x1b[2Jb\\x9bc\\r" in out
    assert "\x1b" not in out


def test_a_reader_that_leaves_ends_it_quietly(service: Service) -> None:
    service.replies = {"*": json_reply({"models": [{"model_name": "m" * 50}] * 5000})}
    shell = f"'{SCRIPT}' models | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell],
        env=outside() | {"ORCHESTRA_URL": service.url},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["help"]])
def test_a_full_disk_is_named(service: Service, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [str(SCRIPT), *arguments],
            env=outside() | {"ORCHESTRA_URL": service.url},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    expected = b"ai-orchestra: The output cannot be written: No space left on device.\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_closed_standard_streams(service: Service) -> None:
    def shell(command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["sh", "-c", f"'{SCRIPT}' {command}"],
            env=outside() | {"ORCHESTRA_URL": service.url},
            capture_output=True,
            timeout=30,
            check=False,
        )

    assert b"Standard output is closed" in shell("health >&-").stderr
    assert b"standard input, which is closed" in shell("route code - <&-").stderr


def test_ctrl_c_ends_it_quietly(service: Service) -> None:
    service.replies = {"*": Reply(write=lambda handler: _wait(service))}
    process = subprocess.Popen(
        [str(SCRIPT), "models"],
        env=outside() | {"ORCHESTRA_URL": service.url},
        stderr=subprocess.PIPE,
    )
    try:
        while not service.requests:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (130, b"")
