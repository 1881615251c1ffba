"""Looking into uploads that are whole: the same media worker and the same refusals as when a file is published.

What is found is written into the upload's row, so that an editor sees a bad file before anybody has worked with it.
Whoever publishes looks again: a row of the database is no proof of what is in a file.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from manifests.digests import Digest
from manifests.errors import InputError, YuanjiaoError
from origin.chores import keep_doing
from origin.database.engine import reading, writing
from origin.drafts import uploads
from origin.drafts.intake import Intake
from origin.drafts.uploads import Upload, UploadId
from origin.publish.failpoints import reach
from origin.publish.media import probe
from origin.publish.media_job import Probe
from origin.storage.faults import storage_faults

_AT_ONCE: Final = 2  # each is a process of its own
_LOOK_AGAIN_S: Final = 30.0
_READ_BYTES: Final = 1 << 20

log = structlog.get_logger(__name__)


class Checks:
    """Checks uploads one after another, for as long as `run` runs."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._woken = asyncio.Event()
        self._under_way: set[UploadId] = set()

    def wake(self) -> None:
        """Something is whole: look now, not later."""
        self._woken.set()

    async def run(self) -> None:
        """Check what is there to check, and what comes, until cancelled."""
        room = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:

            async def look() -> None:
                async with reading(self._intake.engine) as connection:
                    waiting = await uploads.list_by_state(connection, self._intake.shelf.place, "checking")
                for one in waiting:
                    if one.id not in self._under_way:
                        self._under_way.add(one.id)
                        tasks.create_task(self._check_in_turn(one, room))

            await keep_doing("checks of uploads", look, _LOOK_AGAIN_S, woken=self._woken)

    async def _check_in_turn(self, upload: Upload, room: asyncio.Semaphore) -> None:
        try:
            async with room:
                await self.check(upload)
        except YuanjiaoError as error:
            # Not the file's fault: it is looked at again.
            log.warning("upload_check_failed", upload=upload.id, reason=error.message)
        except Exception:
            # Whatever it was, it must not end the checks of all other files.
            log.exception("upload_check_broke", upload=upload.id)
        finally:
            self._under_way.discard(upload.id)

    async def check(self, upload: Upload) -> None:
        """Look into one upload and write down what was found.

        Raises:
            StorageError: environment.
        """
        path = self._intake.shelf.path_of(upload)
        finding: Probe | None = None
        digest, reason, reason_zh = upload.digest, "", ""
        try:
            if digest is None:
                digest = await asyncio.to_thread(_digest_of, path, upload.size_bytes)
            finding = await probe(path, self._intake.terms.probe_s)
        except InputError as error:
            reason, reason_zh = error.message, error.zh
        if finding is None:
            # Nobody can use it. First, so that a row that says refused has no bytes: whoever is killed in between
            # refuses it again for being gone.
            await asyncio.to_thread(self._intake.shelf.remove, upload.id)
        reach("upload:checked")
        async with writing(self._intake.engine) as connection:
            now = self._intake.clock()
            await uploads.settle(connection, upload.id, now, digest, finding, reason, reason_zh)
        log.info("upload_checked", upload=upload.id, bytes=upload.size_bytes, refused=finding is None)


def _digest_of(path: Path, size: int) -> Digest:
    """Hash a file from end to end: another process took part of it, or this one was restarted in between."""
    hasher, buffer = hashlib.sha256(), memoryview(bytearray(_READ_BYTES))
    found = 0
    with storage_faults("hashing an upload"), suppress(FileNotFoundError), path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            found += count
    if found != size:
        raise InputError("its bytes are gone; send it again", zh="上传文件已丢失，请重新上传")
    return Digest(hasher.hexdigest())
