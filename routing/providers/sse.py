"""Splitting byte streams: server-sent events and newline-delimited JSON."""

from collections.abc import AsyncIterator

# An event or a line longer than this is no protocol any of the upstreams speaks.
MAX_PART_BYTES = 8 * 1024 * 1024


class PartTooLong(ValueError):
    """Raised when a stream goes on without a line end for longer than MAX_PART_BYTES."""


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a stream without their ends; a last line needs no end."""
    pending = b""
    async for chunk in chunks:
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")
        if len(pending) > MAX_PART_BYTES:
            raise PartTooLong
    if pending:
        yield pending.rstrip(b"\r")


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of each server-sent event; comments and other fields are skipped."""
    data: list[bytes] = []
    async for line in lines(chunks):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data.clear()
    if data:
        yield b"\n".join(data)
