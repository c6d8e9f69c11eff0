"""A real inference engine for the tests: llama.cpp serving a tiny random-weight model.

`running_llama_server` starts llama.cpp's own HTTP server (from the xllamacpp wheel) in a child
process and yields where it listens: the OpenAI protocol with real tokenisation, usage, streaming.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

MODEL_NAME = "tiny-random"
START_LIMIT_S = 10.0
STOP_LIMIT_S = 5.0
CONTEXT_TOKENS = 2048
SLOTS = 4
# Sampled text of a random model has no end of its own; this ends answers nobody limited.
DEFAULT_ANSWER_TOKENS = 32

WIDTH, LAYERS, HEADS, KV_HEADS, FEED_FORWARD = 64, 2, 4, 2, 192
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@dataclass(frozen=True, slots=True)
class Engine:
    """A running llama.cpp server: `base_url` has no trailing slash and no `/v1`."""

    base_url: str
    model: str
    pid: int


def write_model(path: Path) -> None:
    """Write a llama-architecture GGUF of about half a megabyte, the same bytes every time."""
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer)
    _add_vocabulary(writer)
    for name, weights in _tensors():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter) -> None:
    writer.add_name(MODEL_NAME)
    writer.add_context_length(CONTEXT_TOKENS * SLOTS)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(_tokens()))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _tokens() -> list[str]:
    # "▁" is SentencePiece's space; without it a space would cost three byte tokens.
    return [*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    kind = gguf.TokenType
    writer.add_tokenizer_model("llama")
    writer.add_token_list(_tokens())
    writer.add_token_scores([0.0] * len(_tokens()))
    writer.add_token_types(
        [kind.UNKNOWN, kind.CONTROL, kind.CONTROL, *[kind.BYTE] * 256, kind.NORMAL]
    )
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors() -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.float32]]]]:
    random = np.random.default_rng(7)

    def weights(rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return (random.standard_normal((rows, columns)) * 0.2).astype(np.float32)

    kv_width = WIDTH // HEADS * KV_HEADS
    yield "token_embd.weight", weights(len(_tokens()), WIDTH)
    for layer in range(LAYERS):
        prefix = f"blk.{layer}."
        yield prefix + "attn_norm.weight", np.ones(WIDTH, np.float32)
        yield prefix + "attn_q.weight", weights(WIDTH, WIDTH)
        yield prefix + "attn_k.weight", weights(kv_width, WIDTH)
        yield prefix + "attn_v.weight", weights(kv_width, WIDTH)
        yield prefix + "attn_output.weight", weights(WIDTH, WIDTH)
        yield prefix + "ffn_norm.weight", np.ones(WIDTH, np.float32)
        yield prefix + "ffn_gate.weight", weights(FEED_FORWARD, WIDTH)
        yield prefix + "ffn_up.weight", weights(FEED_FORWARD, WIDTH)
        yield prefix + "ffn_down.weight", weights(WIDTH, FEED_FORWARD)
    yield "output_norm.weight", np.ones(WIDTH, np.float32)
    # Only printable ASCII gets an output row: half of those score above zero, which the 40 tokens
    # that sampling looks at are taken from, so answers are always whole UTF-8.
    output = np.zeros((len(_tokens()), WIDTH), np.float32)
    first = len(SPECIAL_TOKENS) + ord("!")
    output[first : first + 94] = weights(94, WIDTH)
    yield "output.weight", output


@contextlib.contextmanager
def running_llama_server(directory: Path) -> Iterator[Engine]:
    """Serve the tiny model on a free loopback port; stops it, and leaves nothing behind.

    `directory` receives the model and the server's log. Raises RuntimeError with the log's end if
    the server is not up within `START_LIMIT_S`.
    """
    model = directory / "tiny-random.gguf"
    if not model.exists():
        write_model(model)
    log = directory / "llama-server.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines", str(model)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield Engine(_address(process, log), MODEL_NAME, process.pid)
    finally:
        _stop(process)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return the address the child prints once it serves."""
    assert process.stdout is not None
    deadline = time.monotonic() + START_LIMIT_S
    received = b""
    while b"\n" not in received:
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        chunk = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not chunk:
            tail = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"llama.cpp did not start (limit {START_LIMIT_S:g} s):\n{tail}")
        received += chunk
    return str(json.loads(received)["base_url"])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(STOP_LIMIT_S)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _serve(model: str) -> None:
    """Serve until standard input closes, which happens even when the parent is killed."""
    import xllamacpp  # type: ignore[import-untyped]

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {MODEL_NAME}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = CONTEXT_TOKENS * SLOTS
    params.n_parallel = SLOTS
    params.n_predict = DEFAULT_ANSWER_TOKENS
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 4
    params.fit_params = False
    params.warmup = False
    params.ui = False
    params.verbosity = 1
    server = xllamacpp.Server(params)
    # File descriptor 1, not print: the wheel may redirect Python's own standard output.
    os.write(1, json.dumps({"base_url": server.listening_address}).encode() + b"\n")
    while os.read(0, 4096):
        pass
    # The wheel's destructor waits for open streams; nothing here needs its goodbye.
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1])
