"""Beginning the next version of a lesson: its article comes back into the editor."""

from __future__ import annotations

import asyncio
from typing import Final

from manifests.digests import Digest
from manifests.model import Courseware
from origin.drafts.markup import from_markdown
from origin.storage.base import BlobStorage

MAX_ARTICLE_BYTES: Final = 1024 * 1024


async def read_article_of(item: Courseware, storage: BlobStorage) -> str:
    """The article of a lesson as sanitised HTML; empty when it has none, or several, which stay files.

    Raises:
        StorageError: environment.
    """
    articles = [one for one in item.files if one.role == "article"]
    if len(articles) != 1 or articles[0].size > MAX_ARTICLE_BYTES:
        return ""
    data = bytearray()
    async for portion in storage.read(Digest(articles[0].blob), 0, articles[0].size):
        data += portion
    return await asyncio.to_thread(from_markdown, data.decode("utf-8", "replace"))
