"""Redirects to an object store: one hop, to a listed place, for blobs only, and the signature is shown nowhere."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from support.edges import edge_at, run, stored
from support.province import Content, ManualClock, Province, Site
from support.relay import Liar, raw
from support.servers import make_certificate, sending_zeros, serving

from edge.upstream.body import Body
from edge.upstream.client import MissingError, Upstream, open_upstreams
from edge.upstream.gate import Gate
from edge.upstream.progress import Limits
from manifests.errors import TransferError

DATA = random.Random(7).randbytes(50_000)
SECRET = "X-Amz-Signature=5ecre7"
LIMITS = Limits(connect_s=5, answer_s=5, window_s=5, floor_bytes=1024, total_s=60)
NOWHERE = "http://127.0.0.1:9"

Answer = Callable[[str, str], bytes]


def place_of(url: str) -> str:
    return url.removeprefix("http://")


def to(base: str, query: str = SECRET, status: int = 307, body: bytes = b"") -> bytes:
    return raw(status, body, f"Location: {base}/bucket/aa?{query}", "Cache-Control: no-store")


def part(_path: str, wanted: str) -> bytes:
    """The bytes, as any server of ranges gives them."""
    if not wanted:
        return raw(200, DATA)
    start, stop = (int(one) for one in wanted.removeprefix("bytes=").split("-"))
    return raw(206, DATA[start : stop + 1], f"Content-Range: bytes {start}-{stop}/{len(DATA)}")


class Line:
    """An origin and a store by script, and an upstream that may follow from one to the other."""

    def __init__(self, origin: Liar, store: Liar, upstream: Upstream) -> None:
        self.origin = origin
        self.store = store
        self.upstream = upstream

    async def get(self, start: int = 100, stop: int = 5000) -> bytes:
        return await self.upstream.get_range("/blobs/aa", start, stop, len(DATA))

    def asks(self) -> list[bool]:
        """Of each request to the origin, whether it said that a redirect would be followed."""
        return [b"\r\nYuanjiao-Redirects: 1\r\n" in head for head in self.origin.heads]


@asynccontextmanager
async def line(store_says: Answer = part, *, listed: str = "", siblings: bool = False) -> AsyncIterator[Line]:
    """An origin that redirects whoever asks for it; `listed` is the place to allow, the store's own if empty."""
    store = Liar(store_says)
    async with store.running():
        origin = Liar(part)

        def origin_says(path: str, wanted: str) -> bytes:
            is_asked = b"Yuanjiao-Redirects" in origin.heads[-1]
            return to(store.url) if is_asked else part(path, wanted)

        origin.script = origin_says
        places = () if siblings else (listed or place_of(store.url),)
        async with (
            origin.running(),
            open_upstreams((origin.url,), LIMITS, are_siblings=siblings, places=places) as (upstream,),
        ):
            yield Line(origin, store, upstream)


async def test_ranges_come_from_the_store_and_the_origin_is_asked_once() -> None:
    async with line() as one:
        assert await one.get() == DATA[100:5000]
        assert await one.get(0, 10) == DATA[:10]
        assert await one.get(0, len(DATA)) == DATA
        assert one.asks() == [True]
        assert [wanted for _, wanted in one.store.requests] == ["bytes=100-4999", "bytes=0-9", ""]
        assert {path for path, _ in one.store.requests} == {f"/bucket/aa?{SECRET}"}
        assert one.upstream.traffic.requests == 4
        assert one.upstream.traffic.bytes_received == 4900 + 10 + len(DATA), "counted once"
        fields = {line.split(b":")[0] for head in one.store.heads for line in head.split(b"\r\n")[1:-2]}
        assert fields == {b"Host", b"User-Agent", b"Range"}
        assert f"Host: {place_of(one.store.url)}".encode() in one.store.heads[0]


async def test_only_blobs_and_only_where_it_is_allowed() -> None:
    async with line() as one:
        assert await one.upstream.get_bytes("/metadata/x.json", len(DATA)) == DATA
        one.origin.script = lambda _path, _range: to(one.store.url)
        for path in ("/metadata/x.json", "/targets/catalog.json", "/pieces/aa"):
            with pytest.raises(TransferError, match="redirect refused"):
                await one.upstream.get_bytes(path, 100)
        assert one.asks() == [False] * 4
        assert one.store.requests == []
    async with line(siblings=True) as one:
        assert await one.get() == DATA[100:5000]
        one.origin.script = lambda _path, _range: to(one.store.url)
        with pytest.raises(TransferError, match="redirect refused"):
            await one.get()
        assert one.asks() == [False, False]
        assert one.store.requests == []


@pytest.mark.parametrize("status", [400, 403])
async def test_an_address_that_ended_is_asked_for_anew_once(status: int) -> None:
    async with line() as one:
        assert await one.get() == DATA[100:5000]
        ended, asked = one.origin.script, 0

        def store_says(path: str, wanted: str) -> bytes:
            return part(path, wanted) if path.endswith("new") else raw(status, b"<Error>Request has expired</Error>")

        def origin_says(path: str, wanted: str) -> bytes:
            nonlocal asked
            asked += 1
            return to(one.store.url, "new")

        one.store.script, one.origin.script = store_says, origin_says
        assert await one.get(7, 900) == DATA[7:900]
        assert await one.get(8, 900) == DATA[8:900]
        assert asked == 1
        # A clock that is wrong: every new address has ended too.
        one.store.script = lambda _path, _range: raw(403, b"<Error/>")
        before = len(one.store.requests)
        with pytest.raises(TransferError, match=r"by way of.*status 403"):
            await one.get()
        assert (asked, len(one.store.requests)) == (2, before + 2)
        one.origin.script = ended
        assert await one.get() == DATA[100:5000], "then the origin is asked for the bytes themselves"
        assert one.asks()[-1] is False


BAD_STORES = {
    "two hops": (to(NOWHERE), "redirect refused"),
    "a login page by redirect": (to(NOWHERE, status=302), "redirect refused"),
    "a login page": (raw(200, b"<html>login</html>", "Content-Type: text/html"), "text/html"),
    "a login page as a part": (raw(206, b"<html>", "Content-Type: text/html"), "web page"),
    "the whole": (raw(200, DATA), "where a range was asked for"),
    "a huge body": (raw(206, b"x" * 4901, f"Content-Range: bytes 100-4999/{len(DATA)}"), "4901 bytes where 4900"),
    "a huge body without a length": (
        f"HTTP/1.1 206 x\r\nContent-Range: bytes 100-4999/{len(DATA)}\r\n\r\n".encode() + b"x" * 90_000,
        "longer",
    ),
    "another range": (raw(206, b"x" * 4900, f"Content-Range: bytes 0-4899/{len(DATA)}"), "Content-Range"),
    "of another size": (raw(206, b"x" * 4900, "Content-Range: bytes 100-4999/1000000"), "Content-Range"),
    "compressed": (raw(206, b"x", "Content-Encoding: gzip"), "content coding"),
    "not there": (raw(404, b"<Error><Code>NoSuchKey</Code></Error>"), "status 404"),
    "too busy": (raw(503, b"<Error><Code>SlowDown</Code></Error>"), "status 503"),
    "an early end": (raw(206, b"x", f"Content-Range: bytes 100-4999/{len(DATA)}", length=4900), "payload|ended"),
    "no HTTP": (b"this is no HTTP at all\r\n\r\n", "Bad|bad|Expected|Invalid"),
    "nothing": (b"", "disconnected|reset"),
}


@pytest.mark.parametrize("name", BAD_STORES)
async def test_what_a_store_may_do_wrong_is_a_transfer_fault_and_the_origin_helps(name: str) -> None:
    answer, says = BAD_STORES[name]
    async with line(lambda _path, _range: answer) as one:
        with pytest.raises(TransferError, match=says) as caught:
            await one.get()
        assert not isinstance(caught.value, MissingError), "the origin has it"
        shown = "".join(traceback.format_exception(caught.value)) + caught.value.zh + caught.value.hint
        assert "5ecre7" not in shown
        assert f"by way of {place_of(one.store.url)}" in caught.value.message
        assert await one.get() == DATA[100:5000]
        assert one.asks() == [True, False]
        assert len(one.store.requests) <= 2, "the client itself repeats what ended before any answer"


async def test_a_store_that_is_not_reached() -> None:
    async with line(listed="127.0.0.1:9") as one:
        one.origin.script = lambda path, wanted: to(NOWHERE) if len(one.origin.heads) == 1 else part(path, wanted)
        with pytest.raises(TransferError) as caught:
            await one.get()
        assert "拒绝连接" in caught.value.zh
        assert "5ecre7" not in "".join(traceback.format_exception(caught.value))
        assert await one.get() == DATA[100:5000]


async def test_a_place_that_is_not_listed_is_never_connected_to() -> None:
    async with line(listed="oss.example.cn") as one:
        with pytest.raises(TransferError, match=r"not in upstream\.redirects") as caught:
            await one.get()
        assert "upstream.redirects" in caught.value.hint_zh
        assert "5ecre7" not in caught.value.message
        assert one.store.requests == []
        assert await one.get() == DATA[100:5000]


async def test_a_store_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    pem, tls = make_certificate(tmp_path)
    site = Site(Content({}, {"aa": DATA}))
    async with (
        serving(site.handle, tls=tls) as store,
        Liar(lambda _path, _range: raw(307, b"", f"Location: {store}/blobs/aa?{SECRET}")).running() as origin,
    ):
        place = store.removeprefix("https://")
        async with open_upstreams((origin.url,), LIMITS, str(pem), places=(place,)) as (upstream,):
            assert await upstream.get_range("/blobs/aa", 5, 9, len(DATA)) == DATA[5:9]
        async with open_upstreams((origin.url,), LIMITS, places=(place,)) as (upstream,):
            with pytest.raises(TransferError, match="'s certificate is not trusted") as caught:
                await upstream.get_range("/blobs/aa", 5, 9, len(DATA))
            assert "5ecre7" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("status", [301, 302, 303, 308])
async def test_no_other_kind_of_redirect_is_followed(status: int) -> None:
    async with line() as one:
        one.origin.script = lambda _path, _range: to(one.store.url, status=status)
        with pytest.raises(TransferError, match=f"redirect refused .status {status}"):
            await one.get()
        assert one.store.requests == []


async def test_what_comes_by_a_redirect_is_held_back_from_its_first_byte_on() -> None:
    size, senders = 8_000_000, list[asyncio.StreamWriter]()
    async with (
        sending_zeros(size, senders, 16 * 1024) as place,
        Liar(lambda _path, _range: to(f"http://{place}")).running() as origin,
        open_upstreams((origin.url,), Limits(), places=(place,)) as (upstream,),
    ):
        gate = Gate()
        await upstream.fill("/blobs/aa", Body(0, size, size), gate=gate)
        gate.set_rate(0)
        body = Body(0, size, size)
        task = asyncio.create_task(upstream.fill("/blobs/aa", body, gate=gate))
        async with asyncio.timeout(60):
            while upstream.traffic.bytes_received == size:
                await asyncio.sleep(0.01)
        left, before = size, 0
        while left != before:  # until the sender stands still: nobody takes more from it
            before = left
            await asyncio.sleep(0.2)
            left = senders[-1].transport.get_write_buffer_size()
        assert size - left <= 176 * 1024, "the kernel's 32 KiB, as much in the reader twice, the sender's own buffer"
        gate.set_rate(None)
        await asyncio.wait_for(task, 60)
        assert len(senders) == 2, "one for each of the two pools"


@asynccontextmanager
async def province_with_store(site: Site) -> AsyncIterator[tuple[Site, str]]:
    """The store and the origin's address: it sends whoever asks for it to the store, which has the same blobs."""
    store = Site(site.content.copy())

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Yuanjiao-Redirects") == "1":
            return web.Response(status=307, headers={"Location": f"{store.url}{request.path}?{SECRET}"})
        return await site.handle(request)

    async with store.running(), serving(handle) as url:
        yield store, url


async def test_an_edge_syncs_through_a_store_and_one_without_the_setting_without(tmp_path: Path) -> None:
    clock = ManualClock()
    province = Province(clock)
    video = random.Random(3).randbytes(3_000_000)
    lesson = province.lesson("kj-1", {"a.mp4": video})
    province.release()
    site = province.site()
    async with province_with_store(site) as (store, url):
        async with edge_at(tmp_path / "plain", province, clock, url) as edge:
            assert (await run(edge)).complete
            assert stored(edge, "kj-1", "a.mp4") == video
        assert store.requests == []
        assert site.asked(f"/blobs/{lesson.files[0].blob}")
        site.forget()
        places = {"upstream_redirects": f"other.example.cn,{place_of(store.url)}"}
        async with edge_at(tmp_path / "edge", province, clock, url, **places) as edge:
            report = await run(edge)
            assert report.complete
            assert stored(edge, "kj-1", "a.mp4") == video
        assert not site.asked(f"/blobs/{lesson.files[0].blob}")
        assert store.asked(f"/blobs/{lesson.files[0].blob}")
        assert report.sources == {url: report.bytes_fetched}
        assert report.bytes_fetched == site.bytes_sent + store.bytes_sent
        # What the store gives is believed as little as anything.
        store.content.flip(lesson.files[0].blob, 1_500_000)
        async with edge_at(tmp_path / "rot", province, clock, url, **places) as edge:
            assert not (await run(edge)).complete
            assert edge.library.get("kj-1") is None
