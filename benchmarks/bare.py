"""What the data plane is compared with: bare Starlette, doing the least that the job allows."""

import os

from pyreqwest.client import ClientBuilder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

UPSTREAM = os.environ.get("BENCH_UPSTREAM", "")
client = ClientBuilder().no_proxy().build()


async def echo(request: Request) -> JSONResponse:
    """Decode a JSON body and send it back."""
    return JSONResponse(await request.json())


async def pass_through(request: Request) -> Response:
    """Hand the body to the upstream, and its answer to the caller."""
    body = await request.body()
    upstream = client.post(UPSTREAM).header("content-type", "application/json").body_bytes(body)
    answer = await upstream.build().send()
    return Response(bytes(await answer.bytes()), media_type="application/json")


app = Starlette(
    routes=[
        Route("/echo", echo, methods=["POST"]),
        Route("/pass", pass_through, methods=["POST"]),
    ]
)
