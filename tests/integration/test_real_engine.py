"""The tests' own inference engine: it must be real, quick and leave nothing behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.engines import MODEL_NAME, Engine, running_llama_server

HELLO: list[Any] = [{"role": "user", "content": "Hello you"}]
# "user: Hello you\nassistant: " is 27 bytes, a token each, after one start token.
HELLO_TOKENS = 28


@contextlib.contextmanager
def client_of(engine: Engine) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{engine.base_url}/v1", api_key="none", timeout=10) as client:
        yield client


def test_a_whole_answer_has_real_token_counts(llama_server: Engine) -> None:
    with client_of(llama_server) as client:
        answer = client.chat.completions.create(
            model=llama_server.model, messages=HELLO, max_tokens=8, temperature=0
        )
    assert answer.model == MODEL_NAME
    assert len(answer.choices[0].message.content or "") == 8
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (HELLO_TOKENS, 8)


def test_a_streamed_answer_ends_with_its_usage(llama_server: Engine) -> None:
    with client_of(llama_server) as client:
        stream = client.chat.completions.create(
            model=llama_server.model,
            messages=HELLO,
            max_tokens=6,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    pieces = [
        c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content
    ]
    assert len("".join(pieces)) == 6
    assert len(pieces) > 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == HELLO_TOKENS + 6


def test_temperature_zero_repeats_the_answer(llama_server: Engine) -> None:
    with client_of(llama_server) as client:
        answers = {
            client.chat.completions.create(
                model=llama_server.model, messages=HELLO, max_tokens=12, temperature=0
            )
            .choices[0]
            .message.content
            for _ in range(3)
        }
    assert len(answers) == 1


def test_leaving_the_context_stops_the_server(tmp_path: Path) -> None:
    with running_llama_server(tmp_path) as engine:
        assert is_alive(engine.pid)
    assert not is_alive(engine.pid)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "tiny-random.gguf").write_bytes(b"GGUF, but not really")
    with (
        pytest.raises(RuntimeError, match="did not start"),
        running_llama_server(tmp_path),
    ):
        pass


def test_the_server_dies_with_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.engines import *\n"
        "with running_llama_server(Path(sys.argv[1])) as e:\n"
        "    print(e.pid, flush=True); time.sleep(30)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        server_pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while is_alive(server_pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(server_pid)


def is_alive(pid: int) -> bool:
    """Tell whether the process runs; one that waits to be reaped does not."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
