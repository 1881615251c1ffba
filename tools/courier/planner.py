"""What goes on a courier disk, as a value: what its edges lack, most urgent first, cut to the room. Pure.

An edge's own planner says what is wanted there and how each file is best built, so a disk carries a patch where the
edge holds the older version, and nothing that it has. Sizes are those on the medium: whole allocation units.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from edge.sync.planner import Here, How, plan_blob
from edge.sync.wanting import Wanted, wanted_of
from manifests.catalog import items_of, resolve
from manifests.courier import part_files
from manifests.digests import Digest
from manifests.instants import Instant, parse_instant
from manifests.model import Catalog, Courseware, File
from manifests.names import Region
from manifests.pieces import BlobRef

_NEVER = "9999"


@dataclass(frozen=True, slots=True)
class Station:
    """One edge that the disk is for, as far as it is known.

    Attributes:
        region: its county.
        columns: those it subscribes to; empty: all.
        held: courseware proved there: id → version.
        partial: bytes proved of blobs that are begun, by digest.
    """

    region: str
    columns: frozenset[str] = frozenset()
    held: Mapping[str, int] = field(default_factory=dict)
    partial: Mapping[Digest, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Room:
    """What the medium takes.

    Attributes:
        bytes: for everything below its folder.
        unit: bytes of one allocation unit; a file takes whole ones.
        part_bytes: longest file.
    """

    bytes: int
    unit: int
    part_bytes: int


class Packed(Struct, frozen=True):
    """One lesson on the disk, or left for another; `bytes` is what it adds to those before it."""

    id: str
    version: int
    title: str
    bytes: int
    edges: int
    reason: str
    reason_zh: str
    blobs: dict[str, int] = {}


class ExportPlan(Struct, frozen=True):
    """The whole plan.

    Attributes:
        base: catalogs and their piece tables, which every disk carries, with their lengths.
        items: lessons, in order of writing.
        left: lessons that do not fit.
        not_needed: lessons that no edge of the disk lacks.
        earlier: lessons that earlier disks of the series carry.
        bytes: on the medium, signed metadata left out.
        left_bytes: what the lessons left would take.
        parts: disks that it takes from this one on, if the others are like it.
    """

    catalog_version: int
    base: dict[str, int]
    items: tuple[Packed, ...]
    left: tuple[Packed, ...]
    not_needed: int
    earlier: int
    bytes: int
    left_bytes: int
    room_bytes: int
    parts: int

    def blobs(self) -> dict[str, int]:
        """Everything to write, in order, with lengths."""
        found = dict(self.base)
        for item in self.items:
            found |= item.blobs
        return found


def plan_export(
    catalog: Catalog,
    catalog_ref: BlobRef,
    stations: Sequence[Station],
    files_held: Mapping[tuple[str, int], Sequence[File]],
    room: Room,
    now: Instant,
    earlier: Mapping[str, int] | None = None,
    cities: Sequence[BlobRef] = (),
) -> ExportPlan:
    """Make the plan.

    Args:
        catalog: the present one, with what cities offer beside it.
        catalog_ref: the province's as a blob.
        stations: the edges that the disk is for.
        files_held: files of older versions that some station holds, by id and version.
        room: what the medium takes.
        now: by which lessons expire.
        earlier: lessons on earlier disks of the same series: id → version.
        cities: catalogs of cities as blobs.
    """
    needs = _needs(catalog, stations, files_held, now)
    refs = [ref for one in (catalog_ref, *cities) for ref in (one, one.table_ref) if ref is not None]
    base = {ref.digest: ref.size for ref in refs}
    taken = sum(_on_medium(one, size, room) for one, size in base.items())
    base_bytes = taken
    packed: set[str] = set(base)
    items: list[Packed] = []
    left: list[Packed] = []
    before = earlier or {}
    due = sorted((need.item for need in needs.values()), key=lambda item: _order(item, needs))
    for item in (one for one in due if before.get(one.id) != one.version):
        blobs = {digest: size for digest, size in needs[item.id].blobs.items() if digest not in packed}
        cost = sum(_on_medium(Digest(digest), size, room) for digest, size in blobs.items())
        if taken + cost > room.bytes:
            left.append(_left(item, needs[item.id], cost, base_bytes + cost > room.bytes))
            continue
        taken += cost
        packed.update(blobs)
        items.append(_packed(item, needs[item.id], cost, blobs))
    left_bytes = sum(one.bytes for one in left)
    return ExportPlan(
        catalog_version=catalog.version,
        base={str(digest): size for digest, size in base.items()},
        items=tuple(items),
        left=tuple(left),
        not_needed=len(catalog.courseware) - len(due),
        earlier=sum(before.get(item.id) == item.version for item in due),
        bytes=taken,
        left_bytes=left_bytes,
        room_bytes=room.bytes,
        parts=1 + -(-left_bytes // max(room.bytes - base_bytes, 1)) if left else 1,
    )


@dataclass(slots=True)
class _Need:
    """Of one lesson: blobs that some station lacks, and how many stations lack some.

    In a pilot stations lack different versions; `item` is the highest of them.
    """

    item: Courseware
    blobs: dict[str, int] = field(default_factory=dict)
    edges: int = 0


def _needs(
    catalog: Catalog,
    stations: Sequence[Station],
    files_held: Mapping[tuple[str, int], Sequence[File]],
    now: Instant,
) -> dict[str, _Need]:
    present = {(item.id, item.version): item for item in items_of(catalog)}
    needs: dict[str, _Need] = {}
    wanted_by: dict[tuple[str, frozenset[str]], list[Courseware]] = {}
    whole: dict[tuple[str, int], dict[str, int]] = {}
    for station in stations:
        key = station.region, station.columns
        if key not in wanted_by:
            region = Region(station.region)
            wanted_by[key] = wanted_of(resolve(catalog, region), Wanted(region, station.columns), now)
        here = _here(station, present, files_held)
        for item in wanted_by[key]:
            if station.held.get(item.id) == item.version:
                continue
            if here.blobs or here.partial:
                blobs = _lacking(item, here)
            else:  # nothing is known to be there: the same for all such stations
                one = item.id, item.version
                blobs = whole[one] if one in whole else whole.setdefault(one, _lacking(item, here))
            need = needs.setdefault(item.id, _Need(item))
            if item.version > need.item.version:
                need.item = item
            need.blobs |= blobs
            need.edges += 1
    return needs


def _here(
    station: Station,
    present: Mapping[tuple[str, int], Courseware],
    files_held: Mapping[tuple[str, int], Sequence[File]],
) -> Here:
    blobs: set[str] = set()
    for id_, version in station.held.items():
        item = present.get((id_, version))
        files = item.files if item is not None else files_held.get((id_, version), ())
        for file in files:
            blobs.add(file.blob)
            if file.table is not None:
                blobs.add(file.table)
    return Here(station.held, blobs, station.partial, 0)


def _lacking(item: Courseware, here: Here) -> dict[str, int]:
    """Blobs that an edge needs to build a lesson, with their lengths."""
    found: dict[str, int] = {}
    beside: list[str] = []
    for file in item.files:
        plan = plan_blob(file.name, file.ref, file.patches, here, beside=beside)
        beside.append(file.blob)
        refs: list[BlobRef] = []
        if plan.how is How.PATCH:
            refs = [one.ref for one in file.patches if one.blob == plan.patch and one.source == plan.source]
        elif plan.how in {How.PIECES, How.WHOLE}:
            refs = [file.ref]
        tables = [one.table_ref for one in (file.ref, *refs) if one.table_ref is not None]
        found |= {one.digest: one.size for one in (*tables, *refs) if one.digest not in here.blobs}
    return found


def _order(item: Courseware, needs: Mapping[str, _Need]) -> tuple[str, int, int, int, str]:
    """What expires soonest, then by priority, then the newest, then small before large."""
    size = sum(needs[item.id].blobs.values())
    return item.expires or _NEVER, -item.priority, -parse_instant(item.published), size, item.id


def _on_medium(digest: str, size: int, room: Room) -> int:
    files = part_files(Digest(digest), size, room.part_bytes)
    return sum(max(1, -(-(one.stop - one.start) // room.unit)) * room.unit for one in files)


def _packed(item: Courseware, need: _Need, cost: int, blobs: dict[str, int]) -> Packed:
    reason, reason_zh = f"{need.edges} edges lack it", f"{need.edges} 个边缘服务器缺少"
    if item.expires is not None:
        reason, reason_zh = f"{reason}; it expires {item.expires}", f"{reason_zh}，{item.expires} 到期"
    return Packed(item.id, item.version, item.title, cost, need.edges, reason, reason_zh, blobs)


def _left(item: Courseware, need: _Need, cost: int, is_too_big: bool) -> Packed:
    reason, reason_zh = "no room on this disk; it goes on the next one", "本盘容量不足，放入下一张盘"
    if is_too_big:
        reason, reason_zh = "it is larger than the disk; use a larger one", "课件大于本盘容量，请换用更大的盘"
    return Packed(item.id, item.version, item.title, cost, need.edges, reason, reason_zh)


def ids_held(stations: Iterable[Station], present: Mapping[str, int]) -> dict[str, set[int]]:
    """Versions that some station holds and that are not the present ones, by id: whose files must be looked up."""
    found: dict[str, set[int]] = {}
    for station in stations:
        for id_, version in station.held.items():
            if present.get(id_) != version:
                found.setdefault(id_, set()).add(version)
    return found


def names_of(blobs: Mapping[str, int], part_bytes: int) -> Collection[str]:
    """Paths below the folder of all files that these blobs are."""
    return {part.path for digest, size in blobs.items() for part in part_files(Digest(digest), size, part_bytes)}
