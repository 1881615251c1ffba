"""Doctor's checks of an edge: configuration, identity, trust, upstreams, index, and the machine below."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec

from edge.paths import Paths
from edge.report.backlog import read_backlog
from edge.serve.vendor import hls_version
from edge.settings import Settings
from edge.store.eviction import Standing
from edge.store.scrub_log import faults_of, read_scrubs
from edge.store.usage import NOTHING, Usage
from edge.sync.freshness import Freshness, TrustState, freshness_of
from edge.sync.state_file import load_state
from manifests.bundle import Bundle, decode_bundle
from manifests.errors import ConfigurationError
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.settings import load_settings
from manifests.words import show_bytes
from tools import doctor_machine as machine
from tools.doctor_model import Area, Finding, Level, Maker, check_expiry
from tools.doctor_redirects import check_places

_DAY_S = 86400
_WEEK_S = 7 * _DAY_S
# Evicting planned lessons now and then is what the disk's limits are for; most nights of a week are not.
_MANY_DAYS = 4
_DEADLINE_S = 5.0
_SYNC = ("yuanjiao edge sync DIR; if it fails, its message says why", "请执行 yuanjiao edge sync DIR 并查看提示")
_ASK = ("ask the province to renew its signatures, then sync", "请联系省级源站续签后再同步")
_REBUILD = ("remove the file; the next start rebuilds it from the disk", "请删除该文件，下次启动时会从磁盘重建")


async def check_edge(root: Path, env: Mapping[str, str], now: Instant) -> list[Finding]:
    """Everything that is looked at on an edge."""
    paths = Paths(root)
    findings = [machine.check_versions()]
    settings, finding = _settings(paths, env)
    findings.append(finding)
    bundle, finding = _bundle(paths)
    findings.append(finding)
    findings.append(machine.check_private(paths.key, "permissions.key"))
    findings += machine.check_directories((paths.root, paths.blobs, paths.partials, paths.trust, paths.identity))
    findings += machine.check_free(paths.blobs, settings.store.reserve_bytes)
    findings.append(machine.check_write(paths.tmp if paths.tmp.is_dir() else paths.root))
    findings.append(_index(paths))
    findings.append(_decay(paths))
    findings.append(_evictions(paths, now))
    findings.append(_browser_parts())
    findings.append(_reports(paths, now))
    state = load_state(paths.trust)
    findings += _trust(state, settings, now)
    floors = [at for at in (state.floor if state else None, parse_instant(bundle.issued) if bundle else None) if at]
    findings.append(machine.check_clock(now, max(floors, default=None), "what the province sent"))
    findings.append(machine.check_zone(now))
    urls = settings.upstream.urls or (bundle.upstreams if bundle else ())
    findings += [one async for one in check_upstreams(urls, now)]
    findings += [one async for one in check_places(settings.upstream.redirects)]
    findings.append(await machine.check_port(settings.serve.host, settings.serve.port))
    return findings


def _browser_parts() -> Finding:
    maker = Maker("portal.hls", Area.CONFIGURATION)
    version = hls_version()
    if version is not None:
        return maker.ok(f"hls.js {version} is here", f"hls.js {version} 已安装")
    return maker.warn(
        "the program was installed without hls.js: most browsers will play one quality only",
        "安装时未能获取 hls.js，多数浏览器只能以一种清晰度播放",
        "install it again where npm is, with YUANJIAO_REQUIRE_WEB=1 to be told why it fails",
        "请在装有 npm 的机器上重新安装；设置 YUANJIAO_REQUIRE_WEB=1 可查看失败原因",
    )


def _settings(paths: Paths, env: Mapping[str, str]) -> tuple[Settings, Finding]:
    maker = Maker("configuration", Area.CONFIGURATION)
    try:
        text = paths.settings.read_text(encoding="utf-8")
        settings = load_settings(Settings, text, env, paths.settings.name)
    except ConfigurationError as error:
        return Settings(), maker.from_error(error)
    except (OSError, UnicodeDecodeError) as error:
        return Settings(), maker.fail(f"edge.toml: {error}", f"edge.toml 无法读取：{error}", "mend it", "请修复该文件")
    return settings, maker.ok("edge.toml is in order", "edge.toml 正确")


def _bundle(paths: Paths) -> tuple[Bundle | None, Finding]:
    maker = Maker("bundle", Area.CONFIGURATION)
    try:
        bundle = decode_bundle(paths.bundle.read_bytes())
    except ConfigurationError as error:
        return None, maker.from_error(error)
    except OSError as error:
        remedy = ("ask the province for a new bundle and init again", "请向省级源站索取新的开通文件并重新初始化")
        return None, maker.fail(f"bundle: {error.strerror}", f"无法读取开通文件：{error.strerror}", *remedy)
    return bundle, maker.ok(f"edge of {bundle.region}", f"{bundle.region_name}({bundle.region})")


def _index(paths: Paths) -> Finding:
    maker = Maker("index", Area.STORAGE)
    if not paths.index.exists():
        return maker.warn("there is no index yet", "尚无本地索引", "the next start makes it", "下次启动时会自动建立")
    if paths.index_suspect.exists():
        text = ("damage was met in the index", "索引曾出现损坏")
        return maker.warn(*text, "the next sync or start rebuilds it from the disk", "下次同步或启动时会从磁盘重建")
    return machine.check_sqlite(paths.index, "index", _REBUILD)


def _decay(paths: Paths) -> Finding:
    maker = Maker("disk.decay", Area.STORAGE)
    for fault in faults_of(paths):
        return maker.warn(
            fault.en,
            fault.zh,
            "replace the disk; until then `yuanjiao edge scrub DIR --repair` fetches rotten pieces again",
            "请更换磁盘；在此之前可用 yuanjiao edge scrub DIR --repair 重新取回坏片",
        )
    scrubs = read_scrubs(paths.scrubs)
    if not scrubs:
        return maker.ok("no scrub is on record yet", "尚无巡检记录")
    return maker.ok(f"no decay in the last {len(scrubs)} scrubs", f"最近 {len(scrubs)} 次巡检未见磁盘老化")


def _evictions(paths: Paths, now: Instant) -> Finding:
    maker = Maker("disk.evictions", Area.STORAGE)
    if not paths.usage.exists():
        return maker.ok("nothing was evicted yet", "尚未淘汰过课件")
    with Usage.open(paths.usage) as usage:
        found = usage.evictions(Instant(now - _WEEK_S)).get(Standing.PLANNED.word, NOTHING)
    if found.days < _MANY_DAYS:
        return maker.ok("planned lessons have the room they need", "计划内课件空间充足")
    size = show_bytes(found.bytes)
    return maker.warn(
        f"planned lessons were evicted on {found.days} of the last 7 days ({size}): too little room for the plan",
        f"最近 7 天中有 {found.days} 天淘汰了计划内课件（{size}）：磁盘空间或配额不足以容纳计划内的课件",
        "raise store.quota_bytes, add a disk, or subscribe to fewer columns (sync.columns)",
        "请调高 store.quota_bytes、增加磁盘，或减少订阅的专栏（sync.columns）",
    )


def _reports(paths: Paths, now: Instant) -> Finding:
    maker = Maker("reports", Area.TRANSFER)
    backlog = read_backlog(paths.outbox)
    if backlog is None:
        return maker.warn(
            "the outbox of reports cannot be read",
            "无法读取上报队列",
            "the next sync puts a damaged one aside and begins anew; see its log",
            "下次同步时会将损坏的队列另存并重建，请查看同步日志",
        )
    if backlog.oldest_at is None:
        return maker.ok("no report waits", "没有待上报的记录")
    since = dump_instant(backlog.oldest_at)
    text = (
        f"{backlog.waiting} reports wait, the first since {since}",
        f"{backlog.waiting} 条记录待上报，最早为 {since}",
    )
    if not backlog.is_late(now):
        return maker.ok(*text)
    return maker.warn(
        *text,
        "check report.url, and at the origin that the edge's key is known (`yuanjiao origin accept-key`)",
        "请检查 report.url，并在源站确认已登记本机公钥（yuanjiao origin accept-key）",
    )


def _trust(state: TrustState | None, settings: Settings, now: Instant) -> Iterator[Finding]:
    maker = Maker("freshness", Area.TRUST)
    if state is None:
        yield maker.warn("nothing was verified here yet", "尚未完成过同步", *_SYNC)
        return
    stale_s, expired_s = settings.trust.stale_after_hours * 3600, settings.trust.expired_after_days * _DAY_S
    freshness = freshness_of(state, now, stale_s, expired_s)
    if freshness is Freshness.FRESH:
        yield maker.ok(f"fresh; catalog version {state.catalog_version}", f"新鲜，目录第 {state.catalog_version} 版")
    elif freshness is Freshness.STALE:
        text = (
            "stale: the province was not heard from for days; proved lessons play",
            "久未更新：已多日未联系到省级源站",
        )
        yield maker.warn(*text, *_SYNC)
    else:
        text = ("expired: lessons play, nothing new is accepted", "已过期：现有课件照常播放，但不再接受新内容")
        yield maker.fail(*text, *_ASK)
    yield check_expiry("root", state.root.expires, now, 90 * _DAY_S, _ASK)
    yield check_expiry("targets", state.targets.expires, now, 30 * _DAY_S, _ASK)
    yield from _cities(state, now)


def _cities(state: TrustState, now: Instant) -> Iterator[Finding]:
    """Cities whose catalogs are read here; what is wrong with one of them leaves the province's lessons alone."""
    maker = Maker("cities", Area.TRUST)
    for one in state.cities:
        yield check_expiry(f"cities-{one.city}", one.expires, now, 30 * _DAY_S, _ASK)
    for fault in (one for one in state.city_faults if one.is_followed):
        text = (f"city {fault.city} is not followed: {fault.message}", f"未能跟随 {fault.city} 的目录：{fault.zh}")
        yield maker.warn(*text, *_ASK)


async def check_upstreams(urls: tuple[str, ...], now: Instant) -> AsyncIterator[Finding]:
    """Ask every upstream for the file that each poll begins with; one that answers is enough."""
    if not urls:
        maker = Maker("upstream", Area.CONFIGURATION)
        yield maker.fail(
            "no upstream is known",
            "没有上游地址",
            "set upstream.urls in edge.toml",
            "请在 edge.toml 设置 upstream.urls",
        )
        return
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_DEADLINE_S), trust_env=False) as session:
        groups = await asyncio.gather(*(_check_upstream(n, url, session, now) for n, url in enumerate(urls, 1)))
    reached = any(finding.level is Level.OK for group in groups for finding in group)
    for group in groups:
        for finding in group:
            # With another upstream that works, a dead one is a matter for the morning.
            mild = reached and finding.level is Level.FAIL and finding.area is Area.TRANSFER
            yield dataclasses.replace(finding, level=Level.WARN) if mild else finding


async def _check_upstream(number: int, url: str, session: aiohttp.ClientSession, now: Instant) -> list[Finding]:
    maker = Maker(f"upstream.{number}", Area.TRANSFER)
    line = ("check the line, the firewall and the address", "请检查线路、防火墙和上游地址")
    host = urlsplit(url).hostname or ""
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        remedy = ("check /etc/resolv.conf, or use an address instead of a name", "请检查域名解析，或改用 IP 地址")
        return [maker.fail(f"{url}: the name {host} is not resolved", f"{url}：无法解析域名 {host}", *remedy)]
    try:
        async with session.get(f"{url}/metadata/timestamp.json", allow_redirects=False) as answer:
            body = await answer.content.read(64 * 1024)
            status, date, kind = answer.status, answer.headers.get("Date", ""), answer.content_type
    except TimeoutError:
        return [maker.fail(f"{url}: no answer in {_DEADLINE_S:.0f} s", f"{url}:{_DEADLINE_S:.0f} 秒内无应答", *line)]
    except (aiohttp.ClientError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return [maker.fail(f"{url}: {reason}", f"{url}：连接失败（{reason}）", *line)]
    if status != 200:
        remedy = ("is this the base address of an origin or edge?", "请确认该地址是源站或边缘服务器的根地址")
        return [maker.fail(f"{url}: status {status}", f"{url}：返回状态 {status}", *remedy)]
    if not _is_timestamp(body):
        remedy = (
            "a login page or another server answers there; check the address",
            "可能是认证页面或其他服务器，请核对地址",
        )
        return [maker.fail(f"{url}: gave {kind}, not a signed timestamp", f"{url}：返回的不是签名时间戳", *remedy)]
    return [maker.ok(f"{url} answers", f"{url} 可用"), _compare_dates(number, url, date, now)]


def _is_timestamp(body: bytes) -> bool:
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    signed = document.get("signed") if isinstance(document, dict) else None
    return isinstance(signed, dict) and signed.get("_type") == "timestamp"


def _compare_dates(number: int, url: str, date: str, now: Instant) -> Finding:
    maker = Maker(f"clock.upstream.{number}", Area.CONFIGURATION)
    try:
        theirs = int(parsedate_to_datetime(date).timestamp())
    except ValueError:
        return maker.ok(f"{url} gives no time to compare", f"{url} 未给出时间")
    apart = now - theirs
    if abs(apart) > machine.TOLERANCE_S:
        return maker.fail(
            f"this clock and that of {url} are {abs(apart)} s apart ({'ahead' if apart > 0 else 'behind'} here)",
            f"本机时间与 {url} 相差 {abs(apart)} 秒（本机偏{'快' if apart > 0 else '慢'}）",
            "set the clock (`timedatectl set-ntp true`); if this one is right, tell whoever keeps the upstream",
            "请校准系统时间（`timedatectl set-ntp true`）；若本机无误，请通知上游维护人员",
        )
    return maker.ok(f"clock agrees with {url} to {abs(apart)} s", f"系统时间与 {url} 相差 {abs(apart)} 秒")
