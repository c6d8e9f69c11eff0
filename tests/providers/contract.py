"""What every adapter owes, whatever its protocol: inherited by the suite of each."""

import asyncio
import gzip
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from msgspec.structs import replace

from routing.engine.errors import (
    ConnectFailed,
    MalformedAnswer,
    ProviderError,
    RefusedByUpstream,
    StreamCut,
    UpstreamBusy,
    UpstreamFault,
    UpstreamTimeout,
)
from routing.providers import http
from routing.providers.base import Answer, Call, Piece, Provider
from routing.providers.transport import MAX_RETRY_AFTER_S, Misconfigured
from tests.providers.upstream import (
    STREAM_HEAD,
    Asked,
    Behaviour,
    Upstream,
    answer,
    chunk,
    hang_up,
    raw,
    reset,
    silence,
    streamed,
    then_close,
    upstream,
)

KEY = "sk-planted-0123456789"
HTML = "<html><body>502 Bad Gateway, says Mallory</body></html>"
HELLO = Call(model="m", prompt="Hello")
HELLO_CHAT = Call(model="m", messages=[{"role": "user", "content": "Hello"}])
TEXT = "Grüße, 世界 🎻!"

NOT_THE_PROTOCOL = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"7",
    b"{",
    b'{"error"',
    HTML.encode(),
    b'{"error": "\xff"}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"response": 5, "choices": [{"message": {"content": 5}, "delta": {"content": 5}}]}',
    b'{"message": [], "done": true, "choices": {}}',
]


class ProviderContract(ABC):
    """The suite; a subclass says how its protocol writes things."""

    @abstractmethod
    def make(self, url: str, key: str = "") -> Provider:
        """Return the adapter for an endpoint named `acme`."""

    @abstractmethod
    def whole(self, text: str) -> bytes:
        """Return a whole answer of 3 prompt and 2 completion tokens that was cut at its limit."""

    @abstractmethod
    def parts(self, *texts: str) -> list[bytes]:
        """Return a streamed answer, its end included, in as many parts as it has pieces."""

    @abstractmethod
    def without_usage(self, text: str) -> bytes:
        """Return a whole answer that says nothing of tokens."""

    @abstractmethod
    def error(self, message: str) -> bytes:
        """Return the body of an error."""

    @abstractmethod
    def error_part(self, message: str) -> bytes:
        """Return an error as a part of a stream."""

    @abstractmethod
    def vectors(self, *vectors: list[float]) -> bytes:
        """Return an answer to an embedding of 4 prompt tokens."""

    @pytest.fixture
    async def server(self) -> AsyncIterator[Upstream]:
        async with upstream(silence) as made:
            yield made

    @pytest.fixture
    async def provider(self, server: Upstream) -> AsyncIterator[Provider]:
        made = self.make(server.url, KEY)
        yield made
        await made.close()

    async def read(self, provider: Provider, call: Call = HELLO_CHAT) -> list[Piece]:
        return [piece async for piece in provider.stream(call)]

    async def error_of(self, provider: Provider, *, stream: bool = False) -> ProviderError:
        """Return the error that a call meets, and check what every error owes."""
        with pytest.raises(ProviderError) as caught:
            await (self.read(provider) if stream else provider.complete(HELLO_CHAT))
        error = caught.value
        assert error.endpoint == "acme"
        assert "'acme'" in str(error)
        assert KEY not in str(error) + repr(error)
        return error

    # Whole answers.

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_compressed_answer_that_nobody_asked_for(
        self, server: Upstream, provider: Provider, stream: bool
    ) -> None:
        packed = gzip.compress(b"".join(self.parts("one")) if stream else self.whole("one"))
        server.will(answer(packed, content_encoding="gzip"))
        error = await self.error_of(provider, stream=stream)
        assert (type(error), "compressed" in str(error)) == (MalformedAnswer, True)
        assert b"accept-encoding: identity\r\n" in server.asked[0].head

    async def test_an_answer_larger_than_any(
        self, server: Upstream, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http, "MAX_WHOLE_BYTES", 1000)
        server.will(answer(self.whole("x" * 2000)))
        assert type(await self.error_of(provider)) is MalformedAnswer

    @pytest.mark.parametrize("call", [HELLO, HELLO_CHAT], ids=["prompt", "messages"])
    async def test_the_beginning_of_an_answer_is_gone_on_from(
        self, server: Upstream, provider: Provider, call: Call
    ) -> None:
        server.will(streamed(*self.parts("two")))
        await self.read(provider, replace(call, prefill="one "))
        (asked,) = server.asked
        assert asked.path.endswith(("/api/chat", "/chat/completions"))
        assert asked.body["messages"] == [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "one "},
        ]

    @pytest.mark.parametrize("call", [HELLO, HELLO_CHAT], ids=["prompt", "messages"])
    async def test_a_whole_answer(self, server: Upstream, provider: Provider, call: Call) -> None:
        server.will(answer(self.whole(TEXT)))
        told = await provider.complete(call)
        assert (told.text, told.finish_reason, told.tool_calls) == (TEXT, "length", None)
        assert told.usage is not None
        assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (3, 2)

    async def test_usage_may_be_missing(self, server: Upstream, provider: Provider) -> None:
        server.will(answer(self.without_usage("Hi")))
        assert await provider.complete(HELLO_CHAT) == Answer(text="Hi")

    async def test_an_answer_may_come_byte_by_byte(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(streamed(*(bytes([byte]) for byte in self.whole(TEXT))))
        assert (await provider.complete(HELLO_CHAT)).text == TEXT

    async def test_an_answer_may_end_with_its_connection(
        self, server: Upstream, provider: Provider
    ) -> None:
        body = self.whole(TEXT)
        server.will(then_close(raw(b"HTTP/1.0 200 OK\r\n\r\n" + body)))
        assert (await provider.complete(HELLO_CHAT)).text == TEXT

    async def test_an_announced_answer_is_waited_for(
        self, server: Upstream, provider: Provider
    ) -> None:
        body = self.whole(TEXT)
        announced = b"HTTP/1.1 100 Continue\r\nx-early: yes\r\n\r\nHTTP/1.1 200 OK\r\n"
        server.will(raw(announced + b"content-length: %d\r\n\r\n" % len(body) + body))
        assert (await provider.complete(HELLO_CHAT)).text == TEXT

    # Connections.

    async def test_nobody_listens(self) -> None:
        provider = self.make("http://127.0.0.1:1")
        assert isinstance(await self.error_of(provider), ConnectFailed)
        assert isinstance(await self.error_of(provider, stream=True), ConnectFailed)

    async def test_a_name_that_leads_nowhere(self) -> None:
        assert isinstance(await self.error_of(self.make("http://nowhere.invalid")), ConnectFailed)

    async def test_no_tls_where_tls_is_asked_for(
        self, server: Upstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http, "CONNECT_TIMEOUT_S", 0.2)
        provider = self.make(server.url.replace("http:", "https:"))
        assert isinstance(await self.error_of(provider), ConnectFailed)

    @pytest.mark.parametrize("behaviour", [hang_up, reset])
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_connection_lost_before_the_answer(
        self, server: Upstream, provider: Provider, behaviour: Behaviour, stream: bool
    ) -> None:
        server.will(behaviour)
        assert isinstance(await self.error_of(provider, stream=stream), ConnectFailed)
        assert len(server.asked) == 1

    async def test_a_connection_is_used_again(self, server: Upstream, provider: Provider) -> None:
        server.will(answer(self.whole("a")), streamed(*self.parts("b")), answer(self.whole("c")))
        await provider.complete(HELLO_CHAT)
        await self.read(provider)
        await asyncio.sleep(0.05)
        await provider.complete(HELLO_CHAT)
        assert [asked.connection for asked in server.asked] == [1, 1, 1]

    async def test_a_connection_closed_while_idle_is_no_failure(
        self, server: Upstream, provider: Provider
    ) -> None:
        good = answer(self.whole("a"))
        server.will(good, hang_up, good)
        await provider.complete(HELLO_CHAT)
        assert (await provider.complete(HELLO_CHAT)).text == "a"
        assert [asked.connection for asked in server.asked] == [1, 1, 2]

    async def test_a_connection_that_is_to_be_closed_is_not_used_again(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(answer(self.whole("a"), connection="close"))
        for _ in range(2):
            await provider.complete(HELLO_CHAT)
        assert server.connections == 2

    async def test_two_calls_at_once_have_a_connection_each(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(answer(self.whole("a")))
        await asyncio.gather(provider.complete(HELLO), provider.complete(HELLO))
        assert server.connections == 2

    # Bodies that are not what they should be.

    async def test_a_body_shorter_than_announced(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(then_close(answer(self.whole("a"), content_length="5000")))
        assert isinstance(await self.error_of(provider), StreamCut)

    async def test_a_body_cut_off_between_its_chunks(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(streamed(self.whole("a")[:9], end=b""))
        assert isinstance(await self.error_of(provider), StreamCut)

    @pytest.mark.parametrize("body", NOT_THE_PROTOCOL, ids=lambda body: str(body[:12]))
    async def test_a_body_that_is_not_the_protocol(
        self, server: Upstream, provider: Provider, body: bytes
    ) -> None:
        server.will(answer(body))
        assert isinstance(await self.error_of(provider), MalformedAnswer)

    @pytest.mark.parametrize(
        "data",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000,
            b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            STREAM_HEAD + b"zz\r\nabc\r\n",
        ],
        ids=lambda data: str(data[:24]),
    )
    async def test_what_is_not_http(
        self, server: Upstream, provider: Provider, data: bytes
    ) -> None:
        server.will(raw(data))
        async with asyncio.timeout(2):
            assert isinstance(await self.error_of(provider), MalformedAnswer)

    async def test_a_second_answer_to_one_question_spoils_nothing(
        self, server: Upstream, provider: Provider
    ) -> None:
        def whole(text: str) -> bytes:
            body = self.whole(text)
            return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body

        server.will(raw(whole("asked") + whole("unasked")), raw(whole("next")))
        assert (await provider.complete(HELLO_CHAT)).text == "asked"
        assert (await provider.complete(HELLO_CHAT)).text == "next"
        assert server.connections == 2

    # Statuses.

    @pytest.mark.parametrize(
        ("status", "kind", "counts", "again"),
        [
            (400, RefusedByUpstream, False, False),
            (404, RefusedByUpstream, False, False),
            (413, RefusedByUpstream, False, False),
            (422, RefusedByUpstream, False, False),
            (401, Misconfigured, True, False),
            (403, Misconfigured, True, False),
            (408, UpstreamTimeout, True, False),
            (429, UpstreamBusy, True, True),
            (503, UpstreamBusy, True, True),
            (500, UpstreamFault, True, True),
            (502, UpstreamFault, True, True),
            (504, UpstreamFault, True, True),
            (529, UpstreamFault, True, True),
            (204, Misconfigured, True, False),
            (301, Misconfigured, True, False),
            (307, Misconfigured, True, False),
        ],
    )
    @pytest.mark.parametrize("stream", [False, True])
    async def test_what_a_status_means(
        self,
        server: Upstream,
        provider: Provider,
        status: int,
        kind: type[ProviderError],
        counts: bool,
        again: bool,
        stream: bool,
    ) -> None:
        server.will(answer(b"" if status == 204 else HTML, status))
        error = await self.error_of(provider, stream=stream)
        assert type(error) is kind
        assert (error.counts, error.retry_same) == (counts, again)
        assert str(status) in str(error)
        assert "Mallory" not in str(error)

    async def test_an_errors_words_are_quoted_in_short_and_without_the_key(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(answer(self.error(f"{KEY} is too hot " + "x" * 1000), 400))
        error = await self.error_of(provider)
        assert "*** is too hot" in str(error)
        assert len(str(error)) < 400

    async def test_words_about_the_key_are_not_quoted_at_all(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(answer(self.error("Incorrect key: sk-pl*****789"), 401))
        assert "sk-pl" not in str(await self.error_of(provider))

    @pytest.mark.parametrize(
        ("status", "message", "kind"),
        [
            (400, "this model's maximum context length is 10 tokens", "context_length_exceeded"),
            (404, "model 'm' not found, try pulling it first", "model_not_found"),
            (400, "temperature is too hot", ""),
        ],
    )
    async def test_the_kind_of_a_refusal(
        self, server: Upstream, provider: Provider, status: int, message: str, kind: str
    ) -> None:
        server.will(answer(self.error(message), status))
        error = await self.error_of(provider)
        assert isinstance(error, RefusedByUpstream)
        assert (error.kind, error.status) == (kind, status)

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("7", 7.0),
            ("0.5", 0.5),
            ("0", 0.0),
            ("-5", 0.0),
            ("999999999999", MAX_RETRY_AFTER_S),
            ("inf", MAX_RETRY_AFTER_S),
            ("nan", None),
            ("soon", None),
            ("", None),
            (format_datetime(datetime.now(UTC) + timedelta(days=9)), MAX_RETRY_AFTER_S),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_S),
            ("Fri, 31 Dec 9999 23:59:59 -9999", None),
            ("Wed, 99 Oct 2015 07:28:00 GMT", None),
            ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
            ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0),
            ("\xff\xfe", None),
        ],
    )
    async def test_retry_after_in_both_its_forms(
        self, server: Upstream, provider: Provider, value: str, seconds: float | None
    ) -> None:
        head = f"HTTP/1.1 429 Slow down\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n"
        server.will(raw(head.encode("latin-1")))
        assert (await self.error_of(provider)).retry_after_s == seconds

    async def test_a_date_in_a_minute_is_a_minute(
        self, server: Upstream, provider: Provider
    ) -> None:
        at = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        server.will(answer(b"", 503, retry_after=at))
        wait_s = (await self.error_of(provider)).retry_after_s
        assert wait_s is not None
        assert 57 < wait_s <= 60

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_redirect_is_not_followed(
        self, server: Upstream, provider: Provider, status: int, stream: bool
    ) -> None:
        async with upstream(answer(self.whole("stolen"))) as elsewhere:
            server.will(answer(b"", status, location=f"{elsewhere.url}/api/chat"))
            assert isinstance(await self.error_of(provider, stream=stream), Misconfigured)
            assert elsewhere.connections == 0

    async def test_the_key_goes_to_the_endpoint(self, server: Upstream, provider: Provider) -> None:
        server.will(answer(self.whole("a")))
        await provider.complete(HELLO)
        assert f"authorization: Bearer {KEY}\r\n".encode() in server.asked[0].head

    async def test_without_a_key_there_is_no_authorization(self, server: Upstream) -> None:
        server.will(answer(self.whole("a")))
        await self.make(server.url).complete(HELLO)
        assert b"authorization" not in server.asked[0].head.lower()

    @pytest.mark.parametrize("key", ["two\nlines", "two\r\nx-evil: yes", "Schlüssel", "nul\0"])
    def test_a_key_that_would_make_more_headers_is_refused(self, key: str) -> None:
        with pytest.raises(ValueError, match="authorization cannot hold its value") as caught:
            self.make("http://127.0.0.1:1", key)
        assert key not in str(caught.value)

    @pytest.mark.parametrize("url", ["ftp://x", "http://", "localhost:11434", "http://[::1", "/v1"])
    def test_a_url_that_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="URL"):
            self.make(url)

    # Streams.

    async def test_a_stream(self, server: Upstream, provider: Provider) -> None:
        server.will(streamed(*self.parts("Gr", "üße, 世", "界 🎻!")))
        pieces = await self.read(provider)
        assert "".join(piece.text for piece in pieces) == TEXT
        assert [p.finish_reason for p in pieces if p.finish_reason] == ["length"]
        (usage,) = [p.usage for p in pieces if p.usage]
        assert (usage.prompt_tokens, usage.completion_tokens) == (3, 2)

    async def test_a_stream_may_be_cut_anywhere_into_chunks(
        self, server: Upstream, provider: Provider
    ) -> None:
        data = b"".join(self.parts("Gr", "üße, 世", "界 🎻!"))
        for size in (1, 2, 7, len(data)):
            server.will(streamed(*(data[i : i + size] for i in range(0, len(data), size))))
            assert "".join(piece.text for piece in await self.read(provider)) == TEXT

    async def test_a_piece_is_there_as_soon_as_it_is_sent(
        self, server: Upstream, provider: Provider
    ) -> None:
        read = asyncio.Event()
        first, *others = self.parts("one", "two")

        async def wait_for_the_reader(asked: Asked) -> None:
            asked.writer.write(STREAM_HEAD + chunk(first))
            await asyncio.wait_for(read.wait(), 2)
            await streamed_rest(asked, *others)

        server.will(wait_for_the_reader)
        texts = []
        async for piece in provider.stream(HELLO_CHAT):
            texts.append(piece.text)
            read.set()
        assert texts[0] == "one"

    async def test_a_stream_without_its_end_marker(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(streamed(self.parts("one", "two")[0]))
        assert isinstance(await self.error_of(provider, stream=True), StreamCut)

    @pytest.mark.parametrize("sent", [0, 1])
    async def test_a_stream_cut_off_in_the_middle(
        self, server: Upstream, provider: Provider, sent: int
    ) -> None:
        server.will(streamed(*self.parts("one", "two")[:sent], end=b""))
        pieces = provider.stream(HELLO_CHAT)
        for text in ["one"][:sent]:
            assert (await anext(pieces)).text == text
        with pytest.raises(StreamCut):
            await anext(pieces)

    async def test_an_error_within_a_stream(self, server: Upstream, provider: Provider) -> None:
        server.will(streamed(self.parts("one")[0], self.error_part(f"{KEY} ran out of memory")))
        assert type(await self.error_of(provider, stream=True)) is UpstreamFault

    async def test_an_error_within_a_whole_answer(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(answer(self.error(f"{KEY} ran out of memory")))
        assert type(await self.error_of(provider)) is UpstreamFault

    @pytest.mark.parametrize("body", NOT_THE_PROTOCOL[1:], ids=lambda body: str(body[:12]))
    async def test_a_part_that_is_not_the_protocol(
        self, server: Upstream, provider: Provider, body: bytes
    ) -> None:
        server.will(streamed(self.parts("one")[0], b"data: " + body + b"\n\n"))
        kind = type(await self.error_of(provider, stream=True))
        assert kind is MalformedAnswer

    async def test_a_stream_may_begin_with_a_byte_order_mark(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(streamed(b"\xef\xbb\xbf", *self.parts("one", "two")))
        assert "".join(piece.text for piece in await self.read(provider)) == "onetwo"

    async def test_lines_may_end_as_they_do_on_windows(
        self, server: Upstream, provider: Provider
    ) -> None:
        parts = [part.replace(b"\n", b"\r\n") for part in self.parts("one", "two")]
        server.will(streamed(*parts))
        assert "".join(piece.text for piece in await self.read(provider)) == "onetwo"

    async def test_what_follows_the_end_is_not_heard(
        self, server: Upstream, provider: Provider
    ) -> None:
        parts = self.parts("one", "two")
        server.will(streamed(*parts, *parts))
        assert "".join(piece.text for piece in await self.read(provider)) == "onetwo"

    @pytest.mark.parametrize("body", [b"", HTML.encode(), b"\n\n: ping\n\n"])
    async def test_a_stream_that_is_none(
        self, server: Upstream, provider: Provider, body: bytes
    ) -> None:
        server.will(answer(body))
        error = await self.error_of(provider, stream=True)
        assert isinstance(error, StreamCut | MalformedAnswer)

    async def test_a_line_without_end(self, server: Upstream, provider: Provider) -> None:
        async def endless(asked: Asked) -> None:
            asked.writer.write(STREAM_HEAD)
            while True:
                asked.writer.write(chunk(b"data: " + b"x" * 65536))
                await asked.writer.drain()

        server.will(endless)
        assert isinstance(await self.error_of(provider, stream=True), MalformedAnswer)

    async def test_a_slow_reader_slows_its_upstream(
        self, server: Upstream, provider: Provider
    ) -> None:
        sent = 0
        part = chunk(self.parts("x" * 60_000)[0])

        async def flood(asked: Asked) -> None:
            nonlocal sent
            asked.writer.write(STREAM_HEAD)
            while True:
                asked.writer.write(part)
                await asked.writer.drain()
                sent += len(part)

        server.will(flood)
        pieces = provider.stream(HELLO_CHAT)
        await anext(pieces)
        await asyncio.sleep(0.3)
        # What the kernel's and both ends' buffers hold; without a limit it would be far more.
        assert sent < 16 * 1024 * 1024
        await pieces.aclose()  # type: ignore[attr-defined]

    # Leaving.

    async def test_a_cancelled_call_closes_its_connection(
        self, server: Upstream, provider: Provider
    ) -> None:
        closed = asyncio.Event()

        async def watch(asked: Asked) -> None:
            await asked.until_closed()
            closed.set()

        server.will(watch)
        for work in (provider.complete(HELLO), self.read(provider), provider.embed(TWO)):
            closed.clear()
            task: asyncio.Task[Any] = asyncio.ensure_future(work)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(closed.wait(), 1)

    @pytest.mark.parametrize("how", ["close", "cancel"])
    async def test_leaving_a_stream_closes_its_connection(
        self, server: Upstream, provider: Provider, how: str
    ) -> None:
        closed = asyncio.Event()

        async def one_piece(asked: Asked) -> None:
            asked.writer.write(STREAM_HEAD + chunk(self.parts("one")[0]))
            await asked.until_closed()
            closed.set()

        server.will(one_piece)
        pieces: Any = provider.stream(HELLO_CHAT)
        await anext(pieces)
        if how == "cancel":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(pieces)
        await pieces.aclose()
        await asyncio.wait_for(closed.wait(), 1)

    # Embeddings.

    async def test_embeddings(self, server: Upstream, provider: Provider) -> None:
        server.will(answer(self.vectors([0.5, 1.0], [2.0, -1.0])))
        told = await provider.embed(TWO)
        assert told.vectors == [[0.5, 1.0], [2.0, -1.0]]
        assert told.usage is not None
        assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (4, 0)

    async def test_a_vector_for_each_text_or_none_at_all(
        self, server: Upstream, provider: Provider
    ) -> None:
        for vectors in ([], [[1.0]], [[1.0], [2.0], [3.0]]):
            server.will(answer(self.vectors(*vectors)))
            with pytest.raises(MalformedAnswer):
                await provider.embed(TWO)

    @pytest.mark.parametrize("body", NOT_THE_PROTOCOL, ids=lambda body: str(body[:12]))
    async def test_embeddings_that_are_not_the_protocol(
        self, server: Upstream, provider: Provider, body: bytes
    ) -> None:
        server.will(answer(body))
        with pytest.raises(MalformedAnswer):
            await provider.embed(TWO)


TWO = Call(model="m", inputs=["one", "two"])


async def streamed_rest(asked: Asked, *parts: bytes) -> None:
    """Go on with a stream whose head was sent."""
    for part in parts:
        asked.writer.write(chunk(part))
    asked.writer.write(b"0\r\n\r\n")
    await asked.writer.drain()
