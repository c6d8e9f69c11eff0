"""The ASGI application: finds the handler, and gives up when the caller does."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from routing.simulator import admin, ollama_api, openai_api
from routing.simulator.course import Errors, Refused, Simulator
from routing.simulator.memory import die
from routing.simulator.ollama_format import OllamaErrors
from routing.simulator.openai_format import OpenAIErrors
from routing.simulator.wire import PLAIN, BodyTooLarge, Call, ClientGone

Handler = Callable[[Simulator, Call, bytes], Awaitable[None]]

READ = ("GET", "HEAD")
ROUTES: dict[tuple[str, str], Handler] = {
    **{(method, "/"): ollama_api.root for method in READ},
    **{(method, "/api/version"): ollama_api.version for method in READ},
    **{(method, "/api/tags"): ollama_api.tags for method in READ},
    ("GET", "/api/ps"): ollama_api.ps,
    ("POST", "/api/show"): ollama_api.show,
    ("POST", "/api/generate"): ollama_api.generate,
    ("POST", "/api/chat"): ollama_api.chat,
    ("POST", "/api/embed"): ollama_api.embed,
    ("POST", "/api/embeddings"): ollama_api.embeddings,
    ("GET", "/v1/models"): openai_api.models,
    ("POST", "/v1/chat/completions"): openai_api.chat_completions,
    ("POST", "/v1/completions"): openai_api.completions,
    ("POST", "/v1/embeddings"): openai_api.embeddings,
    ("GET", "/_sim/state"): admin.state,
    ("GET", "/_sim/faults"): admin.state,
    ("PUT", "/_sim/faults"): admin.put_faults,
    ("DELETE", "/_sim/faults"): admin.delete_faults,
    ("PUT", "/_sim/memory"): admin.put_memory,
}
PATHS = {path for _, path in ROUTES}
OLLAMA_ERRORS, OPENAI_ERRORS = OllamaErrors(), OpenAIErrors()


def create_app(sim: Simulator) -> ASGIApp:
    """Return the application that serves one simulator."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await _serve(sim, Call(scope, receive, send))
            except MemoryError:
                # Past a resource limit anything may be what gets no memory any more.
                die()
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    while (kind := (await receive())["type"]) != "lifespan.shutdown":
        await send({"type": f"{kind}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _serve(sim: Simulator, call: Call) -> None:
    handler = _handler(call)
    if handler is None:
        known = call.path in PATHS
        text = b"405 method not allowed" if known else b"404 page not found"
        await call.reply(405 if known else 404, text, PLAIN)
        return
    try:
        body = await call.body()
    except ClientGone:
        return
    except BodyTooLarge:
        await call.reply(413, _errors(call).error_body(413, "request body too large"))
        return
    work = _answer(sim, call, body, handler)
    if sim.instant and not sim.faults.rules:
        # Nothing will wait, so there is nobody to watch for: half the cost of a call.
        await work
    else:
        await _unless_gone(sim, call, work)


def _handler(call: Call) -> Handler | None:
    handler = ROUTES.get((call.scope["method"], call.path))
    if handler is None and call.scope["method"] == "GET" and call.path.startswith("/v1/models/"):
        return openai_api.model
    return handler


def _errors(call: Call) -> Errors:
    return OPENAI_ERRORS if call.path.startswith("/v1/") else OLLAMA_ERRORS


async def _answer(sim: Simulator, call: Call, body: bytes, handler: Handler) -> None:
    try:
        await handler(sim, call, body)
    except Refused as exc:
        await call.reply(exc.status, _errors(call).error_body(exc.status, exc.message))


async def _unless_gone(sim: Simulator, call: Call, work: Awaitable[None]) -> None:
    """Do the work, but stop as soon as the caller disconnects, as Ollama does."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(call.wait_until_gone())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and not call.broken:
            sim.cancelled += 1
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
    if not task.cancelled():
        task.result()
