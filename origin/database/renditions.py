"""Renditions that were made: the same video, published again, is not encoded again."""

from __future__ import annotations

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.digests import Digest
from manifests.instants import Instant
from origin.database.engine import reading, writing
from origin.database.tables import renditions


async def recall_renditions(engine: AsyncEngine, video: Digest, recipe: str) -> str | None:
    """The document that was kept for a video and a recipe.

    Raises:
        StorageError: environment.
    """
    async with reading(engine) as connection:
        row = await connection.execute(
            select(renditions.c.document).where(renditions.c.video == video, renditions.c.recipe == recipe)
        )
        found = row.scalar()
    return None if found is None else str(found)


async def keep_renditions(engine: AsyncEngine, video: Digest, recipe: str, document: str, now: Instant) -> None:
    """Keep a document; it takes the place of an older one.

    Raises:
        StorageError: environment.
    """
    async with writing(engine) as connection:
        await connection.execute(delete(renditions).where(renditions.c.video == video, renditions.c.recipe == recipe))
        await connection.execute(insert(renditions).values(video=video, recipe=recipe, made_at=now, document=document))
