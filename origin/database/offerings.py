"""What is offered otherwise than "the newest version, to all": lessons taken away, or on trial in some regions.

Also what was offered at any release of the past: catalogs of old releases are collected, but every release says what
it changed, so its offer can be told from the library for ever. Within the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import exists, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.instants import Instant
from manifests.model import Courseware
from manifests.names import Region
from origin.database.library import chunks, read_document
from origin.database.tables import PUBLISHED, courseware, recalls, releases, versions
from origin.database.tables_pilots import offerings, pilots

RUNNING: Final = "running"
BEGUN: Final = "begun"
DONE, STOPPED, SUPERSEDED, ABANDONED = "done", "stopped", "superseded", "abandoned"

_AREAS: Final = msgspec.json.Decoder(tuple[str, ...])


@dataclass(frozen=True, slots=True)
class NewPilot:
    """A pilot that begins with a release; texts are JSON, made and read by `origin.publish.pilot_plan`."""

    waves: str
    terms: str
    known_faults: str
    started_by: str


@dataclass(frozen=True, slots=True)
class Step:
    """What a release is to a pilot that runs: its next wave, or its end."""

    pilot: int
    wave: int
    ends: str = ""
    by_itself: bool = False
    reason: str = ""
    reason_zh: str = ""


@dataclass(frozen=True, slots=True)
class NewOffering:
    """What a release says of one lesson.

    Attributes:
        id: of the lesson.
        offered: what is offered; None: the lesson is taken away.
        areas: to whom; empty: to all that it is meant for.
        tried: what these areas get instead of `offered`, which goes to all others.
        pilot: that begins with this release.
        step: of a pilot that runs.
    """

    id: str
    offered: Courseware | None
    areas: tuple[Region, ...] = ()
    tried: Courseware | None = None
    pilot: NewPilot | None = None
    step: Step | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A lesson that is offered to some regions only, or there in another version.

    Attributes:
        areas: those regions.
        tried: the version that they get; None: the current one, and nobody else gets any.
    """

    id: str
    areas: tuple[Region, ...]
    tried: Courseware | None
    pilot: int | None


@dataclass(frozen=True, slots=True)
class Past:
    """What a release offered of one lesson; `areas` when not to all, `recalled` when that was why it did not."""

    version: int | None
    areas: tuple[Region, ...] = ()
    tried: int | None = None
    recalled: bool = False


async def trials(connection: AsyncConnection, ids: Iterable[str] | None = None) -> dict[str, Trial]:
    """The trials in force, by id of the lesson: all, or those of some lessons."""
    query = (
        select(offerings, versions.c.document)
        .join_from(
            courseware,
            offerings,
            (offerings.c.courseware == courseware.c.id) & (offerings.c.release == courseware.c.trial),
        )
        .join(
            versions,
            (versions.c.courseware == offerings.c.courseware) & (versions.c.number == offerings.c.tried),
            isouter=True,
        )
    )
    queries = [query] if ids is None else [query.where(courseware.c.id.in_(chunk)) for chunk in chunks(ids)]
    rows = [row for one in queries for row in await connection.execute(one)]
    return {
        row.courseware: Trial(
            row.courseware, read_areas(row.areas), read_document(row.document) if row.document else None, row.pilot
        )
        for row in rows
    }


async def offered_at(connection: AsyncConnection, number: int | None = None) -> dict[str, Past]:
    """What was offered when a release was the newest, by id: the last word of each lesson; None for now."""
    said: dict[str, tuple[int, Past]] = {}

    def note(id_: str, release: int, past: Past) -> None:
        # Later sources are more special: they win within one release.
        if id_ not in said or release >= said[id_][0]:
            said[id_] = release, past

    landed = (
        (releases.c.state == PUBLISHED)
        if number is None
        else ((releases.c.state == PUBLISHED) & (releases.c.number <= number))
    )
    new = select(versions.c.courseware, versions.c.release, versions.c.number.label("version"))
    new = new.join(releases, versions.c.release == releases.c.number).where(landed)
    for row in await connection.execute(new):
        note(row.courseware, row.release, Past(row.version))
    back = select(recalls.c.courseware, recalls.c.release)
    for recalled in await connection.execute(back.join(releases, recalls.c.release == releases.c.number).where(landed)):
        note(recalled.courseware, recalled.release, Past(None, recalled=True))
    special = select(offerings).join(releases, offerings.c.release == releases.c.number).where(landed)
    for said_so in await connection.execute(special):
        note(said_so.courseware, said_so.release, Past(said_so.version, read_areas(said_so.areas), said_so.tried))
    return {id_: past for id_, (_, past) in said.items()}


async def documents_of(
    connection: AsyncConnection, wanted: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], Courseware]:
    """Documents of versions, by id and version."""
    found: dict[tuple[str, int], Courseware] = {}
    every = sorted(set(wanted))
    for start in range(0, len(every), 400):
        key = tuple_(versions.c.courseware, versions.c.number)
        rows = await connection.execute(
            select(versions.c.courseware, versions.c.number, versions.c.document).where(
                key.in_(every[start : start + 400])
            )
        )
        found.update({(row.courseware, row.number): read_document(row.document) for row in rows})
    return found


async def highest_versions(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, int]:
    """The highest version number ever given out, abandoned ones too, by id."""
    found: dict[str, int] = {}
    for chunk in chunks(ids):
        rows = await connection.execute(
            select(versions.c.courseware, versions.c.number).where(versions.c.courseware.in_(chunk))
        )
        for row in rows:
            found[row.courseware] = max(found.get(row.courseware, 0), row.number)
    return found


async def begin_offerings(connection: AsyncConnection, release: int, now: Instant, new: Sequence[NewOffering]) -> None:
    """Write down what a release will say of some lessons; their versions and ids are there."""
    for one in new:
        begun = 0
        if one.pilot is not None and one.offered is not None:
            begun = await _begin_pilot(connection, release, now, one, one.offered, one.pilot)
        step = one.step or Step(begun, 0)
        values: dict[str, Any] = {
            "release": release,
            "courseware": one.id,
            "version": one.offered.version if one.offered else None,
            "tried": one.tried.version if one.tried else None,
            "areas": dump_areas(one.areas) if one.areas else None,
            "pilot": step.pilot or None,
            "wave": step.wave if step.pilot else None,
            "ends": step.ends or None,
            "by_itself": step.by_itself,
            "reason": step.reason,
            "reason_zh": step.reason_zh,
        }
        await connection.execute(insert(offerings).values(**values))


async def _begin_pilot(
    connection: AsyncConnection, release: int, now: Instant, new: NewOffering, offered: Courseware, pilot: NewPilot
) -> int:
    item = new.tried or offered
    row = {
        "courseware": new.id,
        "version": item.version,
        "base": offered.version if new.tried else None,
        "release": release,
        "title": item.title,
        "waves": pilot.waves,
        "wave": 0,
        "state": BEGUN,
        "terms": pilot.terms,
        "known_faults": pilot.known_faults,
        "started_by": pilot.started_by[:64],
        "started_at": now,
        "wave_at": now,
        "by_itself": False,
        "reason": "",
        "reason_zh": "",
    }
    return int((await connection.execute(insert(pilots).values(**row).returning(pilots.c.id))).scalar_one())


async def settle_offerings(connection: AsyncConnection, number: int, now: Instant) -> None:
    """What becomes current with a release beyond its new versions and recalls, and what that is to pilots."""
    rows = (await connection.execute(select(offerings).where(offerings.c.release == number))).all()
    for row in rows:
        values = {"current": row.version, "trial": number if row.areas is not None else None}
        await connection.execute(update(courseware).where(courseware.c.id == row.courseware).values(**values))
        if row.pilot is None:
            continue
        step: dict[str, Any] = {"state": row.ends or RUNNING, "wave": row.wave, "wave_at": now}
        if row.ends:
            step = {"state": row.ends, "ended_at": now, "by_itself": row.by_itself}
        step |= {"reason": row.reason, "reason_zh": row.reason_zh}
        await connection.execute(update(pilots).where(pilots.c.id == row.pilot).values(**step))
    # Whatever else took a lesson out of its trial (a new version, a recall, a restored release) ended its pilot.
    goes_on = exists().where(courseware.c.id == pilots.c.courseware, courseware.c.trial.is_not(None))
    ended = {
        "state": SUPERSEDED,
        "ended_at": now,
        "reason": f"release {number} says otherwise",
        "reason_zh": f"已被第 {number} 次发布取代",
    }
    await connection.execute(update(pilots).where(pilots.c.state == RUNNING, ~goes_on).values(**ended))


async def abandon_pilots(connection: AsyncConnection, number: int, now: Instant) -> None:
    """The pilots of a release that never landed never began."""
    begun = (pilots.c.release == number) & (pilots.c.state == BEGUN)
    await connection.execute(update(pilots).where(begun).values(state=ABANDONED, ended_at=now))


def dump_areas(areas: Iterable[str]) -> str:
    """Region codes as a column holds them."""
    return msgspec.json.encode(tuple(areas)).decode()


def read_areas(text: str | None) -> tuple[Region, ...]:
    """The way back."""
    return tuple(Region(one) for one in _AREAS.decode(text)) if text else ()
