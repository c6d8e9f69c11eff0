"""How OpenAI's protocol writes answers and errors."""

import itertools
import time
from typing import Any

from routing.simulator.course import Job, Times
from routing.simulator.text import Answer
from routing.simulator.wire import GAP, SSE, encode, gaps

FINGERPRINT = "fp_simulated"
ERROR_TYPES = {400: "invalid_request_error", 404: "not_found_error"}
DONE = b"data: [DONE]\n\n"

_numbers = itertools.count(1)


class OpenAIErrors:
    """{"error": {"message", "type", "param", "code"}}, in a stream as one more event."""

    def error_line(self, message: str) -> bytes:
        return b"data: " + self.error_body(500, message) + b"\n\n"

    def error_body(self, status: int, message: str) -> bytes:
        kind = ERROR_TYPES.get(status, "api_error")
        return encode({"error": {"message": message, "type": kind, "param": None, "code": None}})


class Events(OpenAIErrors):
    """Server-sent events of a completion; the two kinds differ in what a choice holds."""

    content_type = SSE

    def __init__(self, name: str, *, chat: bool, usage: bool) -> None:
        self._chat = chat
        self._usage = usage
        self._line: dict[bool, list[bytes]] = {}
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{next(_numbers)}",
            "created": int(time.time()),
            "model": name,
            "system_fingerprint": FINGERPRINT,
        }

    def opening(self) -> bytes:
        return self._event({"role": "assistant", "content": ""}) if self._chat else b""

    def token(self, text: str, *, thinking: bool) -> bytes:
        if thinking not in self._line:
            self._line[thinking] = gaps(self._chunk_of(self._piece(GAP, thinking=thinking)))
        parts = self._line[thinking]
        if len(parts) == 1:  # /v1/completions has no place for thoughts
            return b""
        return b"".join((b"data: ", parts[0], encode(text), parts[1], b"\n\n"))

    def ending(self, job: Job, answer: Answer, times: Times) -> bytes:
        calls = self._calls(answer, streamed=True)
        parts = [self._event({"tool_calls": calls})] if calls else []
        parts.append(self._event({}, self._reason(answer)))
        if self._usage:
            parts.append(self._data({**self._chunk(), "choices": [], "usage": usage(job, answer)}))
        return b"".join([*parts, DONE])

    def whole(self, job: Job, answer: Answer, times: Times, *, ended: bool) -> bytes:
        choice = {"index": 0, "finish_reason": self._reason(answer) if ended else None}
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": answer.text}
            if answer.thinking:
                message["reasoning"] = "".join(answer.thinking)
            if answer.calls:
                message["tool_calls"] = self._calls(answer, streamed=False)
            body = {"object": "chat.completion", "choices": [{**choice, "message": message}]}
        else:
            text = answer.text
            body = {"object": "text_completion", "choices": [{**choice, "text": text}]}
        return encode({**self._head, **body, "usage": usage(job, answer)})

    def _piece(self, text: str, *, thinking: bool) -> dict[str, Any]:
        if thinking:
            return {"content": "", "reasoning": text} if self._chat else {"text": ""}
        return {"content": text} if self._chat else {"text": text}

    def _event(self, piece: dict[str, Any], reason: str | None = None) -> bytes:
        return self._data(self._chunk_of(piece, reason))

    def _chunk_of(self, piece: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        if self._chat:
            choice["delta"] = piece
        else:
            choice["text"] = piece.get("text", "")
        chunk = {**self._chunk(), "choices": [choice]}
        if self._usage:
            chunk["usage"] = None
        return chunk

    def _chunk(self) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._head, "object": kind}

    @staticmethod
    def _data(chunk: dict[str, Any]) -> bytes:
        return b"data: " + encode(chunk) + b"\n\n"

    @staticmethod
    def _reason(answer: Answer) -> str:
        return "tool_calls" if answer.calls else answer.done_reason

    def _calls(self, answer: Answer, *, streamed: bool) -> list[dict[str, Any]]:
        return [
            {
                **({"index": index} if streamed else {}),
                "id": f"call_{self._head['id']}_{index}",
                "type": "function",
                "function": {
                    "name": call["name"],
                    "arguments": encode(call["arguments"]).decode(),
                },
            }
            for index, call in enumerate(answer.calls)
        ]


def usage(job: Job, answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": answer.count,
        "total_tokens": job.prompt_tokens + answer.count,
    }
