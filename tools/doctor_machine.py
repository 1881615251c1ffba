"""Doctor's checks of the machine, the same for both sides: clock, disk, rights, ports, databases, versions."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import aiohttp
import msgspec

from manifests.instants import Instant, dump_instant
from tools.doctor_model import Area, Finding, Maker
from tools.versions import part_versions

TOLERANCE_S = 300  # beyond this, signatures and expiries begin to be judged wrongly
_LOCAL_ZONE = "Asia/Shanghai"
_MIB = 1024 * 1024
_PROBE_BYTES = _MIB
_SLOW_PROBE_S = 2.0
_DEADLINE_S = 5.0


def check_versions() -> Finding:
    """Versions of this program and its parts."""
    maker = Maker("versions", Area.CONFIGURATION)
    versions = part_versions()
    text = ", ".join(f"{name} {number}" for name, number in versions.items())
    absent = [name for name, number in versions.items() if number == "absent"]
    if absent:
        return maker.fail(
            f"parts are absent: {', '.join(absent)}",
            f"缺少部件：{'、'.join(absent)}",
            "install yuanjiao again with all its dependencies",
            "请重新完整安装 yuanjiao",
        )
    return maker.ok(text, text)


def check_clock(now: Instant, floor: Instant | None, floor_from: str) -> Finding:
    """The clock must not be behind a time that the province has signed."""
    maker = Maker("clock.floor", Area.CONFIGURATION)
    if floor is None:
        return maker.ok(f"clock says {dump_instant(now)}; nothing signed to compare", f"系统时间 {dump_instant(now)}")
    behind = floor - now
    if behind > TOLERANCE_S:
        return maker.fail(
            f"clock says {dump_instant(now)}, which is {behind} s before the time signed in {floor_from}",
            f"系统时间 {dump_instant(now)} 比已签名时间早 {behind} 秒",
            "set the clock (`timedatectl set-ntp true`), and replace the mainboard's battery if it happens again",
            "请校准系统时间（`timedatectl set-ntp true`）；若反复出现请更换主板电池",
        )
    return maker.ok(f"clock says {dump_instant(now)}, not before the signed time", f"系统时间 {dump_instant(now)} 正常")


def check_zone(now: Instant) -> Finding:
    """Nights and reports are reckoned in China's time: its data must be here, and people expect it on the machine."""
    maker = Maker("clock.zone", Area.CONFIGURATION)
    try:
        local = datetime.fromtimestamp(now, ZoneInfo(_LOCAL_ZONE))
    except ZoneInfoNotFoundError:
        return maker.fail(
            f"time zone {_LOCAL_ZONE} is unknown here",
            f"系统缺少时区 {_LOCAL_ZONE} 的数据",
            "install the package tzdata",
            "请安装 tzdata",
        )
    offset = datetime.fromtimestamp(now).astimezone().utcoffset()
    if offset != local.utcoffset():
        return maker.warn(
            f"this machine's time zone is UTC{offset}, China's is UTC+8; only what people read off it differs",
            "本机时区不是北京时间，人工查看日志时请注意换算",
            f"timedatectl set-timezone {_LOCAL_ZONE}",
            f"timedatectl set-timezone {_LOCAL_ZONE}",
        )
    return maker.ok("time zone is UTC+8", "时区为北京时间")


def check_free(path: Path, reserve_bytes: int) -> Iterator[Finding]:
    """Free space and free inodes where the bytes go."""
    maker = Maker("disk.free", Area.STORAGE)
    try:
        stat = os.statvfs(path)
    except OSError as error:
        yield maker.fail(f"{path}: {error.strerror}", f"{path}:{error.strerror}", *_MOUNT)
        return
    free = stat.f_bavail * stat.f_frsize
    shown = f"{free // _MIB} MiB"
    remedy = ("free space or add a disk", "请清理空间或增加磁盘")
    if free <= reserve_bytes:
        yield maker.fail(
            f"{shown} free, the reserve is {reserve_bytes // _MIB} MiB", f"磁盘剩余 {shown}，已不足", *remedy
        )
    elif free <= 2 * reserve_bytes:
        yield maker.warn(f"{shown} free, close to the reserve", f"磁盘剩余 {shown}，即将不足", *remedy)
    else:
        yield maker.ok(f"{shown} free", f"磁盘剩余 {shown}")
    if stat.f_files:  # 0: this file system makes inodes as it needs them
        yield _inodes(stat.f_favail / stat.f_files)


def _inodes(share: float) -> Finding:
    maker = Maker("disk.inodes", Area.STORAGE)
    text, zh = f"{share:.0%} of the inodes are free", f"inode 剩余 {share:.0%}"
    remedy = (
        "remove small files beside ours, or make the file system anew with more inodes",
        "请清理小文件或重建文件系统",
    )
    if share < 0.01:
        return maker.fail(text, zh, *remedy)
    return maker.warn(text, zh, *remedy) if share < 0.05 else maker.ok(text, zh)


_MOUNT = ("check that the disk is mounted and the directory exists", "请检查磁盘是否挂载、目录是否存在")


def check_write(path: Path) -> Finding:
    """Write, sync, read back and remove a small file, as every installed blob is."""
    maker = Maker("disk.write", Area.STORAGE)
    probe = path / f".doctor-{os.getpid()}"
    data = os.urandom(_PROBE_BYTES)
    began_s = time.monotonic()
    try:
        with probe.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        took_s = time.monotonic() - began_s
        same = probe.read_bytes() == data
    except OSError as error:
        return maker.fail(
            f"cannot write in {path}: {error.strerror}",
            f"无法写入 {path}:{error.strerror}",
            "check space, rights and whether the disk went read-only (`dmesg`)",
            "请检查空间、权限，以及磁盘是否变为只读（`dmesg`）",
        )
    finally:
        with suppress(OSError):  # on a read-only file system the failure above says it already
            probe.unlink(missing_ok=True)
    if not same:
        return maker.fail("the disk gave back other bytes", "磁盘读回的数据不一致", "replace the disk", "请更换磁盘")
    if took_s > _SLOW_PROBE_S:
        return maker.warn(
            f"writing and syncing 1 MiB took {took_s:.1f} s",
            f"写入并同步 1 MiB 用时 {took_s:.1f} 秒",
            "look at the disk's health (`smartctl -a`) and its load",
            "请检查磁盘健康（`smartctl -a`）和负载",
        )
    return maker.ok(f"1 MiB written and synced in {took_s * 1000:.0f} ms", f"写入 1 MiB 用时 {took_s * 1000:.0f} 毫秒")


def check_directories(paths: Iterable[Path]) -> Iterator[Finding]:
    """Our directories must be there, ours, and writable by us alone."""
    maker = Maker("permissions.directories", Area.STORAGE)
    good = True
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            good = False
            yield maker.fail(f"{path}: {error.strerror}", f"{path}:{error.strerror}", *_MOUNT)
            continue
        owner = ("run as the directory's owner, or chown it to the service's account", "请以目录属主运行，或更改属主")
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            good = False
            yield maker.fail(f"{path} is not writable by this account", f"当前账号无权写入 {path}", *owner)
        elif stat.st_uid != os.geteuid():
            good = False
            who = (f"{path} belongs to uid {stat.st_uid}, this is {os.geteuid()}", f"{path} 的属主不是当前账号")
            yield maker.warn(*who, *owner)
        elif stat.st_mode & 0o002:
            good = False
            yield maker.fail(
                f"{path} is writable by everybody", f"{path} 可被任何人写入", f"chmod o-w {path}", f"chmod o-w {path}"
            )
    if good:
        yield maker.ok("directories are there and ours alone to write", "目录齐全，权限正常")


def check_private(path: Path, identifier: str) -> Finding:
    """A private file must be readable by its owner only."""
    maker = Maker(identifier, Area.CONFIGURATION)
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        return maker.fail(
            f"{path}: {error.strerror}", f"{path}:{error.strerror}", "restore it from its backup", "请从备份恢复"
        )
    if mode & 0o077:
        command = f"chmod 600 {path}"
        return maker.fail(f"{path} can be read by others (mode {mode:04o})", f"{path} 可被他人读取", command, command)
    return maker.ok(f"{path.name} is readable by its owner only", f"{path.name} 权限正常")


def check_sqlite(path: Path, identifier: str, remedy: tuple[str, str]) -> Finding:
    """Ask SQLite to check the file, without changing it."""
    maker = Maker(identifier, Area.STORAGE)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_DEADLINE_S)) as db:
            answers = [row[0] for row in db.execute("PRAGMA quick_check(5)")]
    except sqlite3.Error as error:
        return maker.fail(f"{path.name}: {error}", f"{path.name} 无法读取：{error}", *remedy)
    if answers != ["ok"]:
        return maker.fail(f"{path.name} is damaged: {answers[0]}", f"{path.name} 已损坏：{answers[0]}", *remedy)
    return maker.ok(f"{path.name} is sound", f"{path.name} 完好")


async def check_port(host: str, port: int) -> Finding:
    """The port must be free to listen on, or be served by this program already."""
    maker = Maker("port", Area.CONFIGURATION)
    if port == 0:
        return maker.ok("any free port is used", "使用任意空闲端口")
    fault = bind_fault(host, port)
    if fault is None:
        return maker.ok(f"port {port} is free", f"端口 {port} 空闲")
    if await _is_ours(host, port):
        return maker.ok(f"port {port} is served by yuanjiao", f"端口 {port} 正由本程序提供服务")
    return maker.fail(
        f"port {port} on {host} cannot be listened on: {fault}",
        f"无法监听 {host} 的端口 {port}:{fault}",
        f"end the program that uses it (`ss -ltnp sport = :{port}`), or set another serve.port",
        f"请停止占用该端口的程序（`ss -ltnp sport = :{port}`），或修改 serve.port",
    )


def bind_fault(host: str, port: int) -> str | None:
    """Why this address cannot be listened on now; None when it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return None


async def _is_ours(host: str, port: int) -> bool:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_DEADLINE_S)) as session,
            session.get(f"http://{shown}:{port}/healthz", allow_redirects=False) as answer,
        ):
            health = msgspec.json.decode(await answer.content.read(64 * 1024))
    except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
        return False
    return isinstance(health, dict) and "status" in health and "catalog_version" in health
