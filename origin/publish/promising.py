"""Ask what a publish would mean for the province, without publishing: sizes as they would be, edges as last heard."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.instants import parse_instant
from manifests.pieces import PIECE_SIZE, table_bytes
from origin.database.engine import reading
from origin.database.library import all_columns
from origin.publish.planner import column_id
from origin.publish.pledges import foretell
from origin.publish.promise import Offer, ProvincePromise
from origin.publish.publish import Publishing, PublishPlan, PublishRequest
from origin.publish.treatment import FilePlan, Treatment

# A poster is made later; this is more than one takes.
_POSTER_BYTES = 256 * 1024


async def promise(publishing: Publishing, engine: AsyncEngine, request: PublishRequest, by: str) -> ProvincePromise:
    """Say which edges would hold a courseware by a time of day, were it published now. Changes nothing.

    Args:
        publishing: of the origin that would publish.
        engine: its database.
        request: what would be published; what a worker must make first counts as large as what it is made from.
        by: local time of day, such as `06:00`.

    Raises:
        InputError: bad data; a file that would be refused, or a time that is none.
        StorageError: environment.
    """
    plan = await publishing.plan(request)
    offer = await asyncio.to_thread(_offer_of, plan, request.files, await _column_ids(engine, plan.headline.columns))
    return await foretell(engine, [offer], publishing.clock(), by, [plan.headline.id] if plan.headline.id else [])


async def _column_ids(engine: AsyncEngine, texts: tuple[str, ...]) -> frozenset[str]:
    async with reading(engine) as connection:
        known = await all_columns(connection)
    ids = {column.id: column.id for column in known} | {column.title: column.id for column in known}
    return frozenset(ids.get(text) or column_id(text) for text in texts)


def _offer_of(plan: PublishPlan, paths: tuple[Path, ...], columns: frozenset[str]) -> Offer:
    head = plan.headline
    size = sum(_bytes_of(file, paths) for file in plan.all_files)
    expires = parse_instant(head.expires) if head.expires else None
    return Offer(size, head.audience, columns, title=head.title, priority=head.priority, expires=expires)


def _bytes_of(file: FilePlan, paths: tuple[Path, ...]) -> int:
    size = file.expected or file.size
    if file.treatment is Treatment.POSTER:
        size = size or _POSTER_BYTES
    elif not size:
        size = paths[file.made_from].stat().st_size
    return size + (table_bytes(size, PIECE_SIZE) if size > PIECE_SIZE else 0)
