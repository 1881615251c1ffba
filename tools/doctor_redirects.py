"""Doctor's checks of redirects to an object store: a signed address works, and what an edge may follow is reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import aiohttp
from yarl import URL

from manifests.digests import Digest
from manifests.errors import YuanjiaoError
from manifests.instants import Instant
from origin.opening import open_storage
from origin.paths import Paths
from origin.publish.metadata import MetadataDir
from origin.settings import Settings
from tools.doctor_machine import TOLERANCE_S
from tools.doctor_model import Area, Finding, Maker

_DEADLINE_S = 5.0
_PORTS = (443, 80)  # of a place that names none


async def check_addresses(settings: Settings, paths: Paths, now: Instant) -> list[Finding]:
    """An origin that sends edges to its bucket: what it signs is accepted there."""
    maker = Maker("storage.redirects", Area.CONFIGURATION)
    if not settings.storage.redirect_s:
        return []
    if settings.storage.kind == "local":
        text = ("storage.redirect_s does nothing without a bucket", "未使用对象存储，storage.redirect_s 不起作用")
        return [maker.warn(*text, "take it out of origin.toml", "请从 origin.toml 中删除该项")]
    try:
        chain = MetadataDir(paths.metadata).chain()
        async with open_storage(settings.storage, paths) as storage:
            address = await storage.address(Digest(chain.target.hashes["sha256"])) if chain else None
    except (YuanjiaoError, KeyError):
        return []  # told by the check of what is offered
    return [] if address is None else [await _try(maker, URL(address, encoded=True), now)]


async def _try(maker: Maker, address: URL, now: Instant) -> Finding:
    """Ask for one byte, as an edge would."""
    where = f"{address.scheme}://{address.authority}"  # never the rest: it is as good as a key
    timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(address, headers={"Range": "bytes=0-0"}, allow_redirects=False) as answer,
        ):
            status, apart = answer.status, _apart(answer.headers.get("Date", ""), now)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        return maker.warn(
            f"{where} is not reached from here: {type(error).__name__}",
            f"本机无法访问 {where}（{type(error).__name__}）",
            "if edges cannot reach it either, correct storage.redirect_endpoint; they fall back on this server",
            "若边缘服务器也无法访问，请改正 storage.redirect_endpoint；在此之前仍由源站转发",
        )
    if status == 206:
        return maker.ok(f"{where} accepts the addresses that are signed here", f"{where} 接受本机签名的地址")
    clock = f"; its clock is {abs(apart)} s {'behind' if apart > 0 else 'ahead'}" if abs(apart) > TOLERANCE_S else ""
    clock_zh = f"，两边时间相差 {abs(apart)} 秒" if clock else ""
    return maker.fail(
        f"{where} refuses an address that was signed here (status {status}){clock}",
        f"{where} 拒绝本机签名的地址（状态 {status}）{clock_zh}",
        "check the clock (`timedatectl set-ntp true`), storage.region, storage.redirect_endpoint and the account's "
        "right to read",
        "请检查系统时间（`timedatectl set-ntp true`）、storage.region、storage.redirect_endpoint 以及账号的读取权限",
    )


def _apart(date: str, now: Instant) -> int:
    try:
        return now - int(parsedate_to_datetime(date).timestamp())
    except ValueError:
        return 0


async def check_places(places: tuple[str, ...]) -> AsyncIterator[Finding]:
    """An edge that follows redirects: something listens at each place that it may follow them to."""
    for number, place in enumerate(places, 1):
        maker = Maker(f"upstream.redirects.{number}", Area.TRANSFER)
        named = URL(f"//{place}", encoded=True)
        ports = _PORTS if named.explicit_port is None else (named.explicit_port,)
        if any([await _listens(named.host or "", port) for port in ports]):
            yield maker.ok(f"{place} is reached", f"{place} 可以连接")
        else:
            yield maker.warn(
                f"{place}, to which redirects may be followed, is not reached; bytes come through the upstream",
                f"无法连接允许跳转到的主机 {place}，文件仍经上游转发",
                "check the line, the firewall and upstream.redirects",
                "请检查线路、防火墙和 upstream.redirects",
            )


async def _listens(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_DEADLINE_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError, ValueError):
        return False
    writer.close()
    return True
