"""Packing one courier disk: what `tools.courier.planner` planned is written in order, and can be stopped and resumed.

    courier.json (not complete) → old blobs away → signed release and catalog → lessons → courier.json (complete)

The release comes before the lessons, so that a disk which was pulled out early brings what it has. A file that has its
name was written whole and is kept by the next run; every byte is hashed on its way off the origin's own disk, and
proved again at the edge.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec
import structlog

from edge.threads import run_to_end
from manifests.courier import (
    COURIER_FORMAT,
    COURIER_MAJOR,
    PART_BYTES,
    Courier,
    CourierLesson,
    PartFile,
    encode_courier,
    part_files,
)
from manifests.digests import Digest
from manifests.errors import (
    InputError,
    NotFoundError,
    StorageDamagedError,
    StorageFullError,
    YuanjiaoError,
)
from manifests.instants import dump_instant
from manifests.model import File
from origin.app import Origin
from origin.database import library
from origin.database.engine import reading
from origin.publish.failpoints import reach
from tools.courier.medium import Medium, digest_on
from tools.courier.planner import ExportPlan, Packed, Room, ids_held, names_of, plan_export
from tools.courier.release import Release, read_release
from tools.courier.series import Part, Series, find_series, note_part
from tools.courier.stations import Target

Progress = Callable[[str, int, int], None]

_LEAST_ROOM_BYTES = 64 * 1024
# In courier.json: its head, one blob, one lesson with a title of usual length.
_HEAD_BYTES, _LINE_BYTES, _LESSON_BYTES = 1024, 96, 256

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """How a disk is to be packed.

    Attributes:
        max_bytes: most that it may take; 0: what is free.
        follow: the next disk of the series: leave out what earlier ones carry.
        check: read again what lies on the disk already, rather than go by names and lengths.
        part_bytes: longest file.
    """

    max_bytes: int = 0
    follow: bool = False
    check: bool = False
    part_bytes: int = PART_BYTES


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one disk."""

    disk: str
    target: str
    series: str
    part: int
    parts: int
    catalog_version: int
    lessons: tuple[str, ...]
    left: tuple[str, ...]
    left_bytes: int
    bytes_planned: int
    bytes_written: int
    bytes_kept: int
    failed: dict[str, str]
    complete: bool


@dataclass(frozen=True, slots=True)
class Packing:
    """A plan with all that it was made from."""

    plan: ExportPlan
    release: Release
    series: Series
    part: int
    target: Target
    options: Options


async def plan_disk(origin: Origin, medium: Medium, target: Target, options: Options) -> Packing:
    """Look at the origin and the medium and make the plan; changes nothing.

    Raises:
        InputError: caller's mistake; nobody to pack for, or this very disk is part of the series already.
        StorageFullError: environment; not even the catalog fits.
        StorageError: environment.
    """
    if not target.stations:
        raise InputError(
            "no edge is enrolled here", zh="尚未登记任何边缘服务器", hint="enrol one", hint_zh="请先登记边缘服务器"
        )
    medium.check()
    release = await read_release(origin)
    series, part = await asyncio.to_thread(
        lambda: find_series(origin, medium.courier(), target.name, follow=options.follow)
    )
    free, unit = await asyncio.to_thread(medium.room)
    room = Room(free, unit, options.part_bytes)
    earlier = {id_: version for one in series.parts if one.part < part for id_, version in one.held.items()}
    held_files = await _files_held(origin, release, target)

    def make(room: Room) -> ExportPlan:
        now = origin.clock()
        return plan_export(
            release.catalog, release.catalog_ref, target.stations, held_files, room, now, earlier, release.cities
        )

    if options.max_bytes:
        room = replace(room, bytes=min(free, options.max_bytes))
    plan = await run_to_end(make, room)
    beside = _beside(release, plan, unit)
    if options.max_bytes and plan.bytes + beside > options.max_bytes:
        room = replace(room, bytes=max(0, min(free, options.max_bytes - beside)))
        plan = await run_to_end(make, room)
    if plan.bytes > room.bytes or room.bytes < _LEAST_ROOM_BYTES:
        raise StorageFullError(
            f"{medium.place} has room for {room.bytes} bytes; the catalog alone takes {plan.bytes}",
            zh=f"{medium.place} 可用 {room.bytes} 字节，仅目录就需要 {plan.bytes} 字节",
        )
    return Packing(plan, release, series, part, target, options)


async def _files_held(origin: Origin, release: Release, target: Target) -> dict[tuple[str, int], tuple[File, ...]]:
    """Files of the older versions that some of the edges hold: what patches start from."""
    held = ids_held(target.stations, {item.id: item.version for item in release.catalog.courseware})
    async with reading(origin.engine) as connection:
        return await library.files_of_versions(connection, held)


def _beside(release: Release, plan: ExportPlan, unit: int) -> int:
    """About what the role files and courier.json take; this is written anew beside the old one."""
    listed = _LINE_BYTES * len(plan.blobs()) + _LESSON_BYTES * len(plan.items)
    sizes = (*map(len, release.files.values()), _HEAD_BYTES + 2 * listed)
    return sum(-(-size // unit) * unit for size in sizes)


async def run_export(origin: Origin, medium: Medium, packing: Packing, progress: Progress) -> ExportReport:
    """Write the disk; the caller holds `medium.locked()`.

    Raises:
        StorageFullError: environment; the medium took no more. Run again: it goes on where it stopped.
        StorageError: environment; the medium, or the origin's own disk.
    """
    return await _Export(origin, medium, packing, progress).run()


@dataclass(slots=True)
class _Counts:
    written: int = 0
    kept: int = 0
    failed: dict[str, YuanjiaoError] = field(default_factory=dict)


class _Export:
    def __init__(self, origin: Origin, medium: Medium, packing: Packing, progress: Progress) -> None:
        self._origin = origin
        self._medium = medium
        self._packing = packing
        self._plan = packing.plan
        self._progress = progress
        self._counts = _Counts()
        self._total = sum(self._plan.blobs().values())

    async def run(self) -> ExportReport:
        medium, plan = self._medium, self._plan
        header = self._header()
        await run_to_end(medium.write_courier, encode_courier(header))
        reach("courier:begun")
        await run_to_end(medium.clear_blobs, names_of(plan.blobs(), header.part_bytes))
        for digest, size in plan.base.items():
            await self._put(Digest(digest), size)
        await self._write_release(self._packing.release)
        reach("courier:signed")
        for item in plan.items:
            await self._put_lesson(item)
        await self._renew_release()
        reach("courier:written")
        done = [item for item in plan.items if item.id not in self._counts.failed]
        lost = {digest for item in plan.items if item.id in self._counts.failed for digest in item.blobs}
        final = msgspec.structs.replace(
            header,
            complete=True,
            lessons=tuple(map(_lesson, done)),
            blobs={digest: size for digest, size in plan.blobs().items() if digest not in lost},
        )
        await run_to_end(medium.write_courier, encode_courier(final))
        reach("courier:complete")
        packing = self._packing
        part = Part(packing.part, {item.id: item.version for item in done})
        await run_to_end(note_part, self._origin, packing.target.name, packing.series, part)
        return self._report(done)

    def _header(self) -> Courier:
        packing, plan = self._packing, self._plan
        return Courier(
            format=COURIER_FORMAT,
            major=COURIER_MAJOR,
            publisher=self._origin.region,
            made=dump_instant(self._origin.clock()),
            catalog_version=plan.catalog_version,
            target=packing.target.name,
            series=packing.series.series,
            part=packing.part,
            parts=packing.part + plan.parts - 1,
            part_bytes=packing.options.part_bytes,
            lessons=tuple(map(_lesson, plan.items)),
            blobs=plan.blobs(),
        )

    async def _put_lesson(self, item: Packed) -> None:
        try:
            for digest, size in item.blobs.items():
                await self._put(Digest(digest), size)
        except (StorageDamagedError, NotFoundError) as error:
            # The origin's own copy is lost or rotten: the other lessons travel all the same.
            log.warning("lesson not packed", id=item.id, reason=error.message)
            self._counts.failed[item.id] = error

    async def _put(self, digest: Digest, size: int) -> None:
        parts = part_files(digest, size, self._packing.options.part_bytes)
        lacking = await run_to_end(self._lacking, digest, parts)
        self._counts.kept += sum(one.stop - one.start for one in parts if one not in lacking)
        if lacking:
            await self._copy(digest, parts, lacking)
        counts = self._counts
        self._progress("courier", min(counts.kept + counts.written, self._total), self._total)

    def _lacking(self, digest: Digest, parts: tuple[PartFile, ...]) -> tuple[PartFile, ...]:
        lacking = tuple(one for one in parts if not self._medium.has(one.path, one.stop - one.start))
        if self._packing.options.check and not lacking:
            if digest_on(self._medium, [one.path for one in parts]) == digest:
                return ()
            return parts
        return parts if self._packing.options.check else lacking

    async def _copy(self, digest: Digest, parts: tuple[PartFile, ...], lacking: tuple[PartFile, ...]) -> None:
        """Write the parts that are lacking; all of the blob is read, to prove it before its last part lands."""
        hashing = hashlib.sha256()
        for part in parts:
            is_last = part is parts[-1]
            if part not in lacking and not is_last:
                await self._hash(digest, part, hashing)
                continue
            writer = await run_to_end(self._medium.begin, part.path)
            try:
                async for data in self._origin.storage.read(digest, part.start, part.stop):
                    await run_to_end(_take, hashing, writer.write, data)
                    self._counts.written += len(data)
                    counts = self._counts
                    self._progress("courier", min(counts.kept + counts.written, self._total), self._total)
                if is_last and hashing.hexdigest() != digest:
                    for one in parts:
                        await run_to_end(self._medium.remove, one.path)
                    raise StorageDamagedError(
                        f"the origin's copy of blob {digest} has rotted; it was not packed",
                        zh=f"源站保存的数据块 {digest} 已损坏，未装盘",
                        hint="publish the lesson again from its original file",
                        hint_zh="请用原始文件重新发布该课件",
                    )
                await run_to_end(writer.finish)
            finally:
                writer.close()
            reach("courier:part-written")

    async def _hash(self, digest: Digest, part: PartFile, hashing: hashlib._Hash) -> None:
        async for data in self._origin.storage.read(digest, part.start, part.stop):
            await run_to_end(hashing.update, data)

    async def _write_release(self, release: Release) -> None:
        """Versioned files first and the timestamp last: at no moment does the disk offer half a release."""
        for name in sorted(release.files, key=lambda one: (one == "timestamp.json", one)):
            await run_to_end(self._medium.write, f"metadata/{name}", release.files[name])
        await run_to_end(self._medium.clear_metadata, frozenset(release.files))

    async def _renew_release(self) -> None:
        """Packing takes hours; the newest timestamp of the same catalog gives the disk longer to travel."""
        newest = await read_release(self._origin)
        packed = self._packing.release
        if newest.refs == packed.refs and newest.files != packed.files:
            await self._write_release(newest)

    def _report(self, done: list[Packed]) -> ExportReport:
        packing, plan, counts = self._packing, self._plan, self._counts
        return ExportReport(
            disk=str(self._medium.folder),
            target=packing.target.name,
            series=packing.series.series,
            part=packing.part,
            parts=packing.part + plan.parts - 1,
            catalog_version=plan.catalog_version,
            lessons=tuple(item.id for item in done),
            left=tuple(item.id for item in plan.left),
            left_bytes=plan.left_bytes,
            bytes_planned=plan.bytes,
            bytes_written=counts.written,
            bytes_kept=counts.kept,
            failed={id_: error.message for id_, error in counts.failed.items()},
            complete=not counts.failed,
        )


def _take(hashing: hashlib._Hash, write: Callable[[bytes], None], data: bytes) -> None:
    hashing.update(data)
    write(data)


def _lesson(item: Packed) -> CourierLesson:
    return CourierLesson(item.id, item.version, item.title, item.bytes)
