"""How Ollama's own protocol writes answers and errors."""

from datetime import UTC, datetime, timedelta
from typing import Any

from routing.simulator.course import Job, Times
from routing.simulator.text import Answer
from routing.simulator.wire import GAP, NDJSON, encode, gaps


class OllamaErrors:
    """{"error": "…"}, inside a stream and outside."""

    def error_line(self, message: str) -> bytes:
        return encode({"error": message}) + b"\n"

    def error_body(self, status: int, message: str) -> bytes:
        return encode({"error": message})


class Lines(OllamaErrors):
    """NDJSON of /api/generate and /api/chat, which differ in where the text stands."""

    content_type = NDJSON

    def __init__(self, name: str, *, chat: bool, context: bool = False) -> None:
        self._name = name
        self._chat = chat
        self._context = context
        self._line: dict[bool, list[bytes]] = {}

    def opening(self) -> bytes:
        return b""

    def token(self, text: str, *, thinking: bool) -> bytes:
        if thinking not in self._line:
            sample = self.head("", GAP) if thinking else self.head(GAP)
            self._line[thinking] = gaps({**sample, "created_at": GAP, "done": False})
        start, middle, end = self._line[thinking]
        return b"".join((start, encode(timestamp()), middle, encode(text), end, b"\n"))

    def ending(self, job: Job, answer: Answer, times: Times) -> bytes:
        return encode(self._last(job, answer, times, self.head(calls=answer.calls))) + b"\n"

    def whole(self, job: Job, answer: Answer, times: Times, *, ended: bool) -> bytes:
        head = self.head(answer.text, "".join(answer.thinking), answer.calls)
        return encode(self._last(job, answer, times, head) if ended else {**head, "done": False})

    def head(
        self, text: str = "", thinking: str = "", calls: tuple[dict[str, Any], ...] = ()
    ) -> dict[str, Any]:
        head: dict[str, Any] = {"model": self._name, "created_at": timestamp()}
        content: dict[str, Any] = {"role": "assistant", "content": text}
        if not self._chat:
            content = {"response": text}
        if thinking:
            content["thinking"] = thinking
        if calls:
            content["tool_calls"] = [{"function": call} for call in calls]
        return {**head, "message": content} if self._chat else {**head, **content}

    def _last(self, job: Job, answer: Answer, times: Times, head: dict[str, Any]) -> dict[str, Any]:
        if self._context:
            head["context"] = list(range(1, 1 + min(job.prompt_tokens + answer.count, 32)))
        head.update(
            done=True,
            done_reason=answer.done_reason,
            total_duration=times.total,
            load_duration=times.load,
            prompt_eval_count=job.prompt_tokens,
            prompt_eval_duration=times.prompt,
            eval_count=answer.count,
            eval_duration=times.generate,
        )
        return head


def timestamp(after_s: float = 0.0) -> str:
    when = datetime.now(UTC)
    if after_s:
        when += timedelta(seconds=after_s)
    return when.isoformat().removesuffix("+00:00") + "Z"
