"""The audit: one row for each change, who made it, where, from what to what; rows are only ever added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import insert, select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.instants import Instant
from manifests.names import Region, region_level
from origin.database.tables import audit


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        action: a word such as `account.change`.
        actor: login of whoever made it; empty for the command line on the origin's own machine.
        region: whom it concerns; administrators see what concerns their region.
        subject: what was changed: a login, a courseware id.
        before, after: the values that changed.
        address: where the request came from.
    """

    action: str
    actor: str
    region: Region
    subject: str
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which rows are wanted; empty values do not filter.

    Attributes:
        area: rows that concern it or what lies inside it; a province sees all, also what concerns no region.
        before: rows with smaller numbers, for the next page.
    """

    area: Region
    actor: str = ""
    action: str = ""
    subject: str = ""
    since: Instant | None = None
    until: Instant | None = None
    before: int | None = None


async def note_change(connection: AsyncConnection, now: Instant, change: Change) -> None:
    """Write a change down, in the transaction that makes it."""
    values = {
        "at": now,
        "action": change.action,
        "detail": "",
        "actor": change.actor[:64],
        "region": change.region,
        "subject": change.subject[:80],
        "before": _text(change.before),
        "after": _text(change.after),
        "address": change.address[:64],
    }
    await connection.execute(insert(audit).values(**values))


async def list_changes(connection: AsyncConnection, wanted: AuditFilter, most: int) -> list[Row[Any]]:
    """Rows of the audit table, newest first."""
    query = select(audit).order_by(audit.c.id.desc()).limit(most)
    level = region_level(wanted.area)
    if level != "province":
        prefix = wanted.area[:4] if level == "city" else wanted.area
        query = query.where(audit.c.region.startswith(prefix, autoescape=True))
    for column, text in ((audit.c.actor, wanted.actor), (audit.c.action, wanted.action)):
        if text:
            query = query.where(column == text)
    if wanted.subject:
        query = query.where(audit.c.subject == wanted.subject)
    if wanted.since is not None:
        query = query.where(audit.c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(audit.c.at < wanted.until)
    if wanted.before is not None:
        query = query.where(audit.c.id < wanted.before)
    return list((await connection.execute(query)).all())


def _text(values: Mapping[str, Any]) -> str | None:
    return msgspec.json.encode(values, order="sorted").decode() if values else None
