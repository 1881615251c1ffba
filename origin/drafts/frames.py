"""Pictures of uploaded videos, to choose a poster from; kept as long as their upload, and made again when removed."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from origin.drafts.document import FRAMES
from origin.publish.media import make_frames
from origin.storage.faults import storage_faults


class Frames:
    """Makes them when they are first asked for, one video at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = asyncio.Lock()

    async def of(self, upload: str, video: Path) -> tuple[Path, ...]:
        """The pictures of an upload.

        Raises:
            InputError: bad data; no picture can be decoded.
            StorageError: environment.
        """
        found = self._names(upload)
        if not found[-1].exists():
            async with self._lock:
                if not found[-1].exists():
                    await self._make(upload, video)
        return found

    def forget_but(self, known: Collection[str]) -> None:
        """Remove those of uploads that are gone. Blocking."""
        with storage_faults("clearing pictures of uploads"), suppress(FileNotFoundError):
            for entry in self._folder.iterdir():
                if entry.name not in known:
                    shutil.rmtree(entry, ignore_errors=True)

    def _names(self, upload: str) -> tuple[Path, ...]:
        return tuple(self._folder / upload / f"{number}.jpg" for number in range(1, FRAMES + 1))

    async def _make(self, upload: str, video: Path) -> None:
        fresh = self._folder / f".{upload}-{secrets.token_hex(4)}"
        try:
            with storage_faults("making pictures of an upload"):
                fresh.mkdir(parents=True)
            await make_frames(video, fresh, FRAMES)
            with storage_faults("making pictures of an upload"), suppress(FileExistsError):
                fresh.rename(self._folder / upload)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
