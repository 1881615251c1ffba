"""Upstreams as counties have them: https with a certificate of their own, IPv6, a base path, short keep-alives."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from aiohttp import web
from support.edges import edge_at, run
from support.province import ManualClock, Province
from support.servers import make_certificate, serving

from edge.upstream.client import open_upstreams
from edge.upstream.progress import Limits
from manifests.errors import ConfigurationError, TransferError


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def province(clock: ManualClock) -> Province:
    made = Province(clock)
    made.lesson("film", {"video.mp4": bytes(range(256)) * 4000, "note.pdf": b"notes"})
    made.release()
    return made


async def test_https_with_a_certificate_of_its_own(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    pem, tls = make_certificate(tmp_path)
    async with serving(province.site().handle, tls=tls) as url:
        async with edge_at(tmp_path / "edge", province, clock, url, upstream_ca_file=str(pem)) as edge:
            assert (await run(edge)).complete
        async with edge_at(tmp_path / "edge", province, clock, url) as edge:
            with pytest.raises(TransferError, match="certificate is not trusted") as caught:
                await run(edge)
        assert "证书" in caught.value.zh
        assert "upstream.ca_file" in caught.value.hint_zh


@pytest.mark.parametrize("text", [None, "this is no certificate"])
async def test_a_ca_file_that_cannot_be_used(
    tmp_path: Path, province: Province, clock: ManualClock, text: str | None
) -> None:
    pem = tmp_path / "ca.pem"
    if text is not None:
        pem.write_text(text)
    async with edge_at(tmp_path / "edge", province, clock, "https://127.0.0.1:9", upstream_ca_file=str(pem)) as edge:
        with pytest.raises(ConfigurationError, match=r"upstream\.ca_file"):
            await run(edge)


async def test_ipv6(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with serving(province.site().handle, host="::1") as url, edge_at(tmp_path, province, clock, url) as edge:
        assert (await run(edge)).complete


async def test_a_base_path(tmp_path: Path, province: Province, clock: ManualClock) -> None:
    site = province.site()

    async def handle(request: web.Request) -> web.StreamResponse:
        return await site.handle(request.clone(rel_url=request.rel_url.with_path(request.path.removeprefix("/yj/v1"))))

    async with serving(handle, base="/yj/v1") as url, edge_at(tmp_path, province, clock, url + "/") as edge:
        report = await run(edge)
        assert report.complete
        assert list(report.sources) == [url]


async def test_a_connection_that_the_upstream_closed_in_between_costs_nothing(province: Province) -> None:
    """Each connection answers one request and is then closed without a word, when the next one is under way already."""
    answered: set[object] = set()

    async def handle(request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        if transport in answered:
            transport.abort()
        answered.add(transport)
        return web.Response(body=b"{}")

    async with serving(handle) as url, open_upstreams((url,), Limits()) as (upstream,):
        for _ in range(5):
            assert await upstream.get_bytes("/metadata/timestamp.json", 100) == b"{}"
        assert upstream.traffic.requests == 5
    assert len(answered) == 5
