"""A streamed answer told as server-sent events, in whichever protocol, with its record."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from routing.engine.errors import RoutingError
from routing.lanes.exchange import Bill, Exchange
from routing.lanes.execute import Stream
from routing.lanes.problems import Failure, failure_of, internal_error
from routing.providers.base import Piece, Usage

logger = logging.getLogger(__name__)


class Telling(ABC):
    """Turns a stream's pieces into events, and keeps the record; `run` or `close` ends it."""

    def __init__(self, exchange: Exchange, stream: Stream) -> None:
        self.exchange, self.stream = exchange, stream
        self._usage: Usage | None = None
        self._chars = 0
        exchange.trail.answered_by = stream.candidate
        exchange.first_token_ms = exchange.elapsed_ms

    async def run(self) -> AsyncIterator[bytes]:
        """Yield events; the record is kept before the end marker is sent."""
        try:
            yield self.opening()
            async for piece in self.stream.pieces():
                if event := self._told(piece):
                    yield event
            bill = self._bill()
            self.stream.learn(bill.completion_tokens)
            yield self.ending(bill)
        except RoutingError as exc:
            yield self._broken(failure_of(exc))
        except (asyncio.CancelledError, GeneratorExit):
            self.exchange.caller_left(self._bill())
            raise
        except Exception:
            logger.exception("A stream failed")
            yield self._broken(internal_error())
        finally:
            await self.stream.close()

    async def close(self) -> None:
        """End what its caller left before `run` began; afterwards nothing is left to do."""
        try:
            self.exchange.caller_left(self._bill())
        finally:
            await self.stream.close()

    @abstractmethod
    def opening(self) -> bytes:
        """Return what comes before the answer."""

    @abstractmethod
    def piece(self, piece: Piece) -> bytes:
        """Return a part of the answer, or b"" where there is nothing to tell."""

    @abstractmethod
    def switched(self) -> bytes:
        """Return the news that another model goes on, or b"" where it is not told."""

    @abstractmethod
    def ending(self, bill: Bill) -> bytes:
        """Record the success and return the end marker; raises NotReady."""

    @abstractmethod
    def breaking(self, failure: Failure) -> bytes:
        """Return the news that the answer is not whole and never will be."""

    def _told(self, piece: Piece) -> bytes:
        news = b""
        trail = self.exchange.trail
        if trail.answered_by is not self.stream.candidate:
            trail.answered_by = self.stream.candidate
            news = self.switched()
        self._usage = piece.usage or self._usage
        self._chars += len(piece.text)
        return news + self.piece(piece)

    def _broken(self, failure: Failure) -> bytes:
        self.exchange.fail(failure, self._bill())
        return self.breaking(failure)

    def _bill(self) -> Bill:
        return self.exchange.bill(self._usage, self._chars)
