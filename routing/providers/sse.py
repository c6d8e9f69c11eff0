"""Splitting byte streams: server-sent events and newline-delimited JSON."""

from collections.abc import AsyncIterator

# An event or a line longer than this is no protocol any of the upstreams speaks.
MAX_PART_BYTES = 8 * 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # a stream may begin with one


class PartTooLong(ValueError):
    """Raised when a line or an event is longer than MAX_PART_BYTES."""


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a stream without their ends; a last line needs no end."""
    pending: list[bytes] = []
    size = 0
    async for chunk in chunks:
        first, *others = chunk.split(b"\n")
        # Joined once a line, not once a chunk: a long line may come in thousands of chunks.
        pending.append(first)
        size += len(first)
        if size > MAX_PART_BYTES:
            raise PartTooLong
        if others:
            yield b"".join(pending).rstrip(b"\r")
            for line in others[:-1]:
                yield line.rstrip(b"\r")
            pending, size = [others[-1]], len(others[-1])
    if size:
        yield b"".join(pending).rstrip(b"\r")


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of each server-sent event; comments and other fields are skipped."""
    data: list[bytes] = []
    size = 0
    first = True
    async for line in lines(chunks):
        if first:
            line, first = line.removeprefix(BYTE_ORDER_MARK), False
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
            size += len(line)
            if size > MAX_PART_BYTES:
                raise PartTooLong
        elif not line and data:
            yield b"\n".join(data)
            data, size = [], 0
    if data:
        yield b"\n".join(data)
