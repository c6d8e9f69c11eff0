"""/livez and /readyz: for orchestrators, without Django, database or network."""

from typing import Any

from routing import plane

PATHS = frozenset(("/livez", "/readyz"))


async def answer(scope: Any, send: Any) -> None:
    """Answer a probe: 200 with a word, or 503 with the reason."""
    status, text = (200, "ok") if scope["path"] == "/livez" else readiness()
    body = b"" if scope["method"] == "HEAD" else text.encode() + b"\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % (len(text.encode()) + 1)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def readiness() -> tuple[int, str]:
    """Return whether this worker can take requests, and if not, why."""
    runtime = plane.current()
    if runtime is None or not runtime.ready:
        return 503, "starting: no policy is loaded yet"
    if not runtime.recorder.admits():
        return 503, "the spool is full or its disk is"
    return 200, "ready"
