"""The processes of a benchmark: nginx as the upstream, the bare servers, and the orchestra."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestra_site.embedded import leash

ROOT = Path(__file__).resolve().parent.parent
MODEL = "llama3.2:3b"
START_S = 60.0
STOP_S = 20.0

GENERATED = {
    "model": MODEL, "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": "stop",
    "response": "The quick brown fox jumps over the lazy dog. " * 4, "total_duration": 5_000_000,
    "load_duration": 0, "prompt_eval_count": 12, "prompt_eval_duration": 1_000_000,
    "eval_count": 40, "eval_duration": 4_000_000,
}  # fmt: skip
_ENTRY = {
    "name": MODEL, "model": MODEL, "modified_at": "2026-01-01T00:00:00Z", "size": 2_019_393_189,
    "digest": "0" * 64, "size_vram": 0, "expires_at": "2099-01-01T00:00:00Z",
    "details": {"format": "gguf", "family": "llama", "families": ["llama"],
                "parameter_size": "3.2B", "quantization_level": "Q4_K_M"},
}  # fmt: skip
_SHOW = {
    "capabilities": ["completion"], "details": _ENTRY["details"],
    "model_info": {"general.architecture": "llama", "llama.context_length": 131072,
                   "llama.block_count": 28, "llama.attention.head_count": 24,
                   "llama.attention.head_count_kv": 8, "llama.embedding_length": 3072},
}  # fmt: skip
ANSWERS = {
    "/api/version": {"version": "0.20.0"},
    "/api/tags": {"models": [_ENTRY]},
    "/api/ps": {"models": [_ENTRY]},
    "/api/show": _SHOW,
    "/api/generate": GENERATED,
}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    """Yield the base URL of an Ollama made of constants: an upstream at C speed."""
    port = free_port()
    locations = "\n".join(
        f"location = {path} {{ default_type application/json; return 200 '{json.dumps(answer)}'; }}"
        for path, answer in ANSWERS.items()
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1; daemon off;\n"
        "events { worker_connections 4096; }\n"
        "http { access_log off; keepalive_requests 100000000;\n"
        f"client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        f"server {{ listen 127.0.0.1:{port}; {locations} }} }}\n"
    )
    with _running(["nginx", "-c", str(config), "-p", str(folder)]):
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/api/version")
        yield url


@contextmanager
def bare(workers: int, upstream: str) -> Iterator[str]:
    """Yield the base URL of the bare Starlette servers."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "benchmarks.bare:app", f"--port={port}",
        f"--workers={workers}", "--loop=uvloop", "--http=httptools", "--no-access-log",
    ]  # fmt: skip
    with _running(command, BENCH_UPSTREAM=upstream):
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/none", status=404)
        yield url


@contextmanager
def orchestra(home: Path, workers: int, ollama_url: str) -> Iterator[str]:
    """Yield the base URL of the real thing: `manage.py ai-orchestra up`, engines and all."""
    port = free_port()
    command = [sys.executable, "manage.py", "ai-orchestra", "up"]
    with _running(
        command,
        API_PORT=str(port),
        WEB_WORKERS=str(workers),
        OLLAMA_URL=ollama_url,
        ORCHESTRA_HOME=str(home),
    ):
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/api/v1/health")
        yield url


@contextmanager
def _running(command: list[str], **extra: str) -> Iterator[None]:
    environment = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment | extra,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # It is gone even if this process is killed.
        preexec_fn=leash.leash(signal.SIGTERM),
    ) as process:
        try:
            yield
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _wait_for(url: str, status: int = 200) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if _status(url) == status:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{url} did not answer {status} within {START_S:.0f} s")


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310
            return int(response.status)
    except urllib.error.HTTPError as exc:
        return exc.code
    except OSError:
        return 0
