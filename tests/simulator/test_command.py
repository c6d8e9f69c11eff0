"""`python -m routing.simulator` as an operator runs it."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from routing.simulator.__main__ import catalogue_for, main, parser

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_serves_and_stops_on_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    models = tmp_path / "mine.yaml"
    models.write_text("models: [{name: mine, size_gb: 1}]")
    command = [sys.executable, "-m", "routing.simulator", "--port", "0", "--models", str(models)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"Simulated Ollama on (http://127.0.0.1:\d+): 1 models, 64 GB", line)
        assert found, line
        [model] = httpx.get(f"{found[1]}/api/tags").json()["models"]
        assert model["name"] == "mine:latest"
        process.send_signal(number)
        assert process.wait(10) == 0


def test_a_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    expected = f"Cannot listen on 127.0.0.1:{port}: Address already in use.\n"
    assert capsys.readouterr().err == expected


def test_a_bad_models_file_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--models", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "70000"], "70000 is not a port"),
        (["--speed", "0"], "0 is not a positive number"),
        (["--max-queue", "0"], "0 is too small"),
        (["--models", "x", "--preset", "load"], "not allowed with argument"),
        (["--allocate"], "need each other"),
        (["--memory-limit-mb", "60"], "need each other"),
    ],
)
def test_bad_options_are_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


def test_options_overrule_the_models_file() -> None:
    options = parser().parse_args(["--preset", "tight", "--memory-gb", "99", "--max-loaded", "7"])
    host = catalogue_for(options).host
    assert (host.memory_gb, host.max_loaded, host.max_queue) == (99, 7, 8)


def test_it_imports_neither_django_nor_the_rest_of_the_project() -> None:
    script = (
        "import sys, routing.simulator.__main__\n"
        "ours = ('django', 'routing', 'telemetry', 'orchestra_site', 'cli', 'dashboard')\n"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] in ours))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    others = [n for n in done.stdout.split() if not n.startswith("routing.simulator")]
    assert others == ["routing"]
