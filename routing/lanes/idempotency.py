"""`Idempotency-Key`: a POST that is sent again is carried out once, and answered twice.

The first request with a key is carried out; what it is answered is kept for a while, sealed, and
sent to whoever comes with the same key and the same request. Who comes while it is carried out
waits for it. Failures are not kept: a retry after one runs again.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from routing.coordination.answers import AWAY, AnswerStore, Claim, Mark
from routing.coordination.spare import Spare
from routing.engine.errors import NotReady
from routing.lanes.problems import BadRequest
from routing.lanes.reply import Reply

logger = logging.getLogger(__name__)

LONGEST_KEY = 255
KEEP_S = 600.0
# A holder that died is given up after this long; a living one renews in time.
LEASE_S = 15.0
# Longer than any default deadline: who waits outlasts who is waited for.
JOIN_LIMIT_S = 130.0
LOOK_EVERY_S = 0.1
LARGEST_BYTES = 8 * 1024 * 1024
REPLAYED = {"idempotency-replayed": "true"}

Answer = Callable[[], Awaitable[Reply]]


class Kept(msgspec.Struct, array_like=True):
    """An answer as it is kept. `too_large`: there was one, but not to be kept."""

    status: int
    content_type: str
    headers: dict[str, str]
    body: bytes
    streamed: bool
    too_large: bool = False


class Unavailable(NotReady):
    """Raised when the promise of a key cannot be kept, because Redis is away."""

    code = "idempotency_unavailable"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Kept).decode


class Idempotency:
    """One worker's part in keeping the promise.

    Keys and fingerprints are keyed hashes, and answers are sealed with a key made of the service's
    secret and the request's own key: neither Redis nor a copy of it tells what was answered.
    """

    def __init__(self, store: AnswerStore, secret: str, *, keep_s: float = KEEP_S) -> None:
        self._store = store
        self._secret = secret.encode()
        self._keep_s = keep_s
        self._spare = Spare()
        self._making: dict[str, asyncio.Future[None]] = {}
        self._settling: set[asyncio.Task[None]] = set()

    async def once(
        self, path: str, key: bytes, body: bytes, answer: Answer, *, scope: bytes = b""
    ) -> Reply:
        """Return the reply to this request: `answer()`'s, or the one that was given before.

        `scope` tells callers apart: the same key from two of them is two requests.

        Raises BadRequest for a key that cannot be used, that was used for another request, or
        whose request takes too long; Unavailable without Redis; and what `answer` raises.
        """
        text = _checked(key)
        name = self._hash(b"key", path.encode() + b"\0" + scope + b"\0" + key).hex()
        fingerprint = self._hash(b"request", path.encode() + b"\0" + _canonical(body))
        seal = self._seal(scope + b"\0" + key)
        try:
            async with asyncio.timeout(JOIN_LIMIT_S) as limit:
                found = await self._claim_or_answer(name, fingerprint)
                limit.reschedule(None)
        except TimeoutError:
            raise _in_progress(text) from None
        if isinstance(found, Mark):
            return _replay(found, seal, text)
        return await _Making(self, found, seal).carry_out(answer)

    async def close(self) -> None:
        """Let go of what is not settled, and of Redis."""
        for task in self._settling:
            task.cancel()
        await asyncio.gather(*self._settling, return_exceptions=True)
        await self._store.close()

    async def _claim_or_answer(self, name: str, fingerprint: bytes) -> Claim | Mark:
        while True:
            if (making := self._making.get(name)) is not None:
                await asyncio.wait([making])
            found = self._spare.get(name) or await self._claim(name, fingerprint)
            if isinstance(found, Claim):
                self._making[name] = asyncio.get_running_loop().create_future()
                return found
            if not hmac.compare_digest(found.fingerprint, fingerprint):
                raise _reused()
            if found.answer is not None:
                return found
            await asyncio.sleep(LOOK_EVERY_S)

    async def _claim(self, name: str, fingerprint: bytes) -> Claim | Mark:
        try:
            return await self._store.claim(name, fingerprint, LEASE_S)
        except AWAY as exc:
            raise Unavailable(
                "The Idempotency-Key cannot be honoured while Redis is away;"
                " try again, or leave the header out."
            ) from exc

    async def finish(self, claim: Claim, sealed: bytes) -> None:
        """Keep the answer, even if its caller leaves meanwhile."""
        await asyncio.shield(self._soon(claim, self._finish(claim, sealed)))

    def let_go(self, claim: Claim) -> None:
        """Release a claim soon; callable where nothing may be awaited any more."""
        self._soon(claim, self._store.release(claim))

    async def hold(self, claim: Claim) -> None:
        """Renew the claim until cancelled."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            with contextlib.suppress(*AWAY):
                await self._store.renew(claim, LEASE_S)

    async def _finish(self, claim: Claim, sealed: bytes) -> None:
        try:
            kept = await self._store.finish(claim, sealed, self._keep_s)
        except AWAY:
            # At least this worker can answer again.
            self._spare.put(claim.key, Mark(claim.fingerprint, sealed), self._keep_s)
            return
        if not kept:
            logger.warning("An answer came after its claim had been given up.")

    def _soon(self, claim: Claim, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(self._settle(claim, work))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return task

    async def _settle(self, claim: Claim, work: Coroutine[Any, Any, None]) -> None:
        try:
            # Without Redis a mark ends by itself.
            with contextlib.suppress(*AWAY):
                await work
        finally:
            making = self._making.pop(claim.key, None)
            if making is not None and not making.done():
                making.set_result(None)

    def _hash(self, purpose: bytes, data: bytes) -> bytes:
        key = hmac.digest(self._secret, b"idempotency " + purpose, hashlib.sha256)
        return hmac.digest(key, data, hashlib.sha256)

    def _seal(self, key: bytes) -> Fernet:
        derived = HKDF(SHA256(), 32, salt=None, info=b"idempotency answer\0" + key)
        return Fernet(base64.urlsafe_b64encode(derived.derive(self._secret)))


class _Making:
    """A request that is carried out under a claim, whole or streamed."""

    def __init__(self, owner: Idempotency, claim: Claim, seal: Fernet) -> None:
        self._owner, self._claim, self._seal = owner, claim, seal
        self._holding = asyncio.get_running_loop().create_task(owner.hold(claim))
        self._settled = False
        self._chunks: list[bytes] = []
        self._size = 0

    async def carry_out(self, answer: Answer) -> Reply:
        try:
            reply = await answer()
        except BaseException:
            self._give_up()
            raise
        if reply.stream is not None:
            return self._tapped(reply, reply.stream)
        if reply.status >= 300:
            self._give_up()
            return reply
        await self._keep(reply, reply.body, streamed=False)
        return reply

    def _tapped(self, reply: Reply, stream: AsyncIterator[bytes]) -> Reply:
        """Return the reply with its stream listened to; it is kept if it ends well."""
        inner = Reply(
            reply.status, content_type=reply.content_type, headers=dict(reply.headers),
            stream=stream, on_close=reply.on_close, succeeded=reply.succeeded,
        )  # fmt: skip

        async def close() -> None:
            try:
                await inner.close()
            finally:
                self._give_up()

        return Reply(
            reply.status,
            content_type=reply.content_type,
            headers=reply.headers,
            stream=self._tap(inner, stream),
            on_close=close,
            succeeded=reply.succeeded,
        )

    async def _tap(self, reply: Reply, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in stream:
            self._size += len(chunk)
            if self._size <= LARGEST_BYTES:
                self._chunks.append(chunk)
            if not self._settled and reply.succeeded():
                # Before the caller has the end: whoever missed it finds it kept.
                await self._keep(reply, b"".join(self._chunks), streamed=True)
            yield chunk

    async def _keep(self, reply: Reply, body: bytes, *, streamed: bool) -> None:
        self._settled = True
        self._holding.cancel()
        large = max(self._size, len(body)) > LARGEST_BYTES
        kept = Kept(
            reply.status, reply.content_type, reply.headers, b"" if large else body, streamed, large
        )
        await self._owner.finish(self._claim, self._seal.encrypt(_encode(kept)))

    def _give_up(self) -> None:
        if not self._settled:
            self._settled = True
            self._holding.cancel()
            self._owner.let_go(self._claim)


def _replay(mark: Mark, seal: Fernet, key: str) -> Reply:
    try:
        kept = _decode(seal.decrypt(mark.answer or b""))
    except (InvalidToken, msgspec.DecodeError):
        # Made under another secret; the same as used for something else.
        raise _reused() from None
    if kept.too_large:
        raise BadRequest(
            f"The request with Idempotency-Key '{key}' was answered, but its answer was too large"
            " to keep. Use a new key to ask again.",
            code="idempotency_answer_lost",
            status=409,
        )
    headers = kept.headers | REPLAYED
    if not kept.streamed:
        return Reply(kept.status, kept.body, kept.content_type, headers)
    return Reply(
        kept.status, content_type=kept.content_type, headers=headers, stream=_one(kept.body)
    )


async def _one(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _checked(key: bytes) -> str:
    if not 1 <= len(key) <= LONGEST_KEY or not all(32 < byte < 127 for byte in key):
        raise BadRequest(
            f"The header Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters"
            " without blanks; a UUID is a good one.",
            code="idempotency_key_invalid",
        )
    return key.decode("ascii")


def _canonical(body: bytes) -> bytes:
    """Return the request in one spelling, whatever its blanks and the order of its fields."""
    try:
        return msgspec.json.encode(msgspec.json.decode(body), order="sorted")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body  # refused by whoever reads it


def _reused() -> BadRequest:
    return BadRequest(
        "This Idempotency-Key was used for another request; every request has a key of its own.",
        code="idempotency_key_reused",
        status=422,
    )


def _in_progress(key: str) -> BadRequest:
    return BadRequest(
        f"The request with Idempotency-Key '{key}' is still being carried out; ask again later.",
        code="idempotency_in_progress",
        status=409,
        retry_after_s=1.0,
    )
