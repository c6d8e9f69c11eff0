"""The memory that models take: pretended, or really allocated under a limit that kills.

Really allocated memory is touched page by page, so that the kernel has to find it. Past the limit
the process dies as an inference server does on a machine that is too full: the kernel kills it
(control group), or it kills itself where the kernel only refuses (resource limit).
"""

import asyncio
import mmap
import os
import signal
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from routing.simulator.limits import Limit

MIB = 2**20
CHUNK_BYTES = MIB
# Not zero: pages of zeros might be shared or never be backed by anything.
FILLING = b"\x5a" * CHUNK_BYTES


class Block(Protocol):
    """Memory that was taken; giving it back twice does no harm."""

    def free(self) -> None: ...


class Memory(Protocol):
    """Where the host takes a model's memory from; sizes are those of the simulated machine."""

    async def load(self, size_bytes: int, over_s: float) -> Block:
        """Return memory that was filled during `over_s` seconds."""
        ...

    def grow(self, size_bytes: int) -> Block:
        """Return memory that was filled at once."""
        ...


class Nothing:
    """No memory at all."""

    def free(self) -> None:
        """Nothing to give back."""


class Pretended:
    """Takes the time that loading takes, and no memory."""

    async def load(self, size_bytes: int, over_s: float) -> Block:
        await asyncio.sleep(over_s)
        return Nothing()

    def grow(self, size_bytes: int) -> Block:
        return Nothing()


@dataclass(slots=True)
class Chunks:
    """Pages of this process that are in use; freed, the kernel has them back at once."""

    regions: list[mmap.mmap] = field(default_factory=list)

    def add(self, size_bytes: int) -> None:
        """Fill more memory; the process does not survive a refusal."""
        try:
            region = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            region.write(FILLING[:size_bytes])
        except (MemoryError, OSError):
            die()
        self.regions.append(region)

    def free(self) -> None:
        while self.regions:
            self.regions.pop().close()


class Allocated:
    """Really takes memory, `scale` bytes of this process for each of the simulated machine."""

    def __init__(self, limit: Limit, scale: float) -> None:
        self.limit = limit
        self.scale = scale
        self._neighbour = Chunks()

    async def load(self, size_bytes: int, over_s: float) -> Block:
        pieces = self._pieces(size_bytes)
        block = Chunks()
        try:
            for piece in pieces:
                block.add(piece)
                await asyncio.sleep(over_s / len(pieces))
        except BaseException:
            block.free()
            raise
        return block

    def grow(self, size_bytes: int) -> Block:
        return _filled(self._pieces(size_bytes))

    def neighbour(self, real_bytes: int) -> None:
        """Have the machine's other processes take this much from now on, of real memory."""
        self._neighbour.free()
        self._neighbour = _filled(_split(real_bytes))

    @property
    def neighbour_bytes(self) -> int:
        return sum(len(region) for region in self._neighbour.regions)

    def _pieces(self, size_bytes: int) -> list[int]:
        return _split(round(size_bytes * self.scale))


def _filled(pieces: list[int]) -> Chunks:
    chunks = Chunks()
    for piece in pieces:
        chunks.add(piece)
    return chunks


def _split(real_bytes: int) -> list[int]:
    whole, rest = divmod(real_bytes, CHUNK_BYTES)
    return [CHUNK_BYTES] * whole + ([rest] if rest else [])


def die() -> NoReturn:
    """End as the kernel's out-of-memory killer ends a process: at once, without a word."""
    os.kill(os.getpid(), signal.SIGKILL)
    os._exit(128 + signal.SIGKILL)
