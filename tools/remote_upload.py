"""Sending files to an origin by tus 1.0.0: in chunks, over lines that drop, going on where an earlier run stopped.

What is on its way is noted in a file of the user's, by origin and file; the origin says where it stands.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from manifests.errors import DigestError, InputError, NotFoundError, TransferError
from tools.files import write_private
from tools.remote import DELAYS_S, Remote, refusal

UPLOADS: Final = "/api/v1/uploads"
_CHUNK_BYTES: Final = 32 << 20
_READ_BYTES: Final = 1 << 20
_CHECK_S: Final = 0.5
_VERSION: Final = {"Tus-Resumable": "1.0.0"}
_MOST_NOTES: Final = 200
# Another try can help: the upload stands elsewhere, or somebody (perhaps we, on a dead line) is still sending.
_AGAIN: Final = frozenset({409, 423})

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Sent:
    """An upload that is ready; `key` is what it is noted by until it is published."""

    id: str
    sha256: str
    key: str


class Notes:
    """Which file goes where, across runs.

    Args:
        path: of the file that remembers; it is made when it is first needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> dict[str, str]:
        """What is noted; nothing when the file is not there or cannot be read."""
        with suppress(OSError, msgspec.DecodeError, UnicodeError):
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        return {}

    def put(self, key: str, where: str | None) -> None:
        """Note where a file goes, or that it is there."""
        kept = {one: place for one, place in self.all().items() if one != key}
        if where is not None:
            kept[key] = where
        # Without a note a broken-off upload begins anew: a pity, but no reason to fail.
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            newest = dict(list(kept.items())[-_MOST_NOTES:])
            write_private(self._path, msgspec.json.encode(newest))


def notes_of(env: Any) -> Notes:
    """The notes of whoever runs this."""
    state = env.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Notes(Path(state) / "yuanjiao" / "uploads.json")


class Sending:
    """Sends files to one origin."""

    def __init__(
        self, remote: Remote, notes: Notes, progress: Progress, delays_s: tuple[float, ...] = DELAYS_S
    ) -> None:
        self._remote = remote
        self._notes = notes
        self._progress = progress
        self._delays_s = delays_s

    async def send(self, path: Path) -> Sent:
        """Send a file, and wait until the origin has looked into it.

        Raises:
            InputError: bad data; the origin refuses the file, or it was changed meanwhile.
            TransferError: environment; the line or the origin did not hold. The next run goes on there.
            DigestError: bad data; what arrived is not what was sent.
        """
        found = await asyncio.to_thread(path.stat)
        key = f"{self._remote.base}|{path.absolute()}|{found.st_size}|{found.st_mtime_ns}"
        where, at = await self._resume(self._notes.all().get(key, ""))
        if not where:
            where, at = await self._begin(path.name, found.st_size), 0
            self._notes.put(key, where)
        await self._send_all(path, where, at, found.st_size)
        digest = await asyncio.to_thread(_digest_of, path)
        told = await self._checked(where)
        if told["state"] != "ready":
            self._notes.put(key, None)
            raise InputError(str(told["reason"]), zh=str(told["reason_zh"]))
        if told["sha256"] != digest:
            self._notes.put(key, None)
            await self._remote.ask("DELETE", where)
            raise DigestError(
                f"{path.name}: what arrived is not what lies here; it was changed while it was sent, or damaged",
                zh=f"{path.name}：源站收到的内容与本地文件不一致（文件在上传过程中被修改，或传输受损），请重新运行",
            )
        return Sent(where.rpartition("/")[2], digest, key)

    def forget(self, sent: Sent) -> None:
        """It is published; until then a further run need not send it again."""
        self._notes.put(sent.key, None)

    async def _resume(self, where: str) -> tuple[str, int]:
        """Where an earlier run stopped; empty when it is not there any more."""
        if not where.startswith(f"{UPLOADS}/"):
            return "", 0
        try:
            return where, await self._offset(where)
        except NotFoundError:
            return "", 0

    async def _begin(self, name: str, size: int) -> str:
        told = f"filename {base64.b64encode(name.encode()).decode()}"
        fields = {**_VERSION, "Upload-Length": str(size), "Upload-Metadata": told}
        status, answered, text = await self._remote.send("POST", UPLOADS, None, fields)
        where = answered.get("Location", "")
        if status != 201:
            raise refusal(status, text)
        if not where.startswith(f"{UPLOADS}/"):
            raise TransferError("the origin named no place for the upload", zh="源站没有给出上传地址")
        return where

    async def _offset(self, where: str) -> int:
        status, answered, _ = await self._remote.send("HEAD", where, None, _VERSION)
        if status != 200:
            raise refusal(status, b"")
        return int(answered.get("Upload-Offset", "0"))

    async def _send_all(self, path: Path, where: str, at: int, size: int) -> None:
        tries = 0
        self._progress(path.name, at, size)
        while at < size:
            before = at
            if (await asyncio.to_thread(path.stat)).st_size != size:
                raise InputError(f"{path} was changed while it was sent", zh=f"文件 {path} 在上传过程中被修改")
            try:
                at = await self._send_chunk(path, where, at, size)
            except TransferError as error:
                if tries >= len(self._delays_s):
                    raise
                await asyncio.sleep(self._delays_s[tries])
                with suppress(TransferError):  # told by the next try, if it is still so
                    at = await self._offset(where)
                if at > size:
                    raise TransferError("the origin counts more bytes than there are") from error
            tries = 0 if at > before else tries + 1
            self._progress(path.name, at, size)

    async def _send_chunk(self, path: Path, where: str, at: int, size: int) -> int:
        count = min(_CHUNK_BYTES, size - at)
        fields = {
            **_VERSION,
            "Upload-Offset": str(at),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(count),
        }
        body = _portions(path, at, count, lambda done: self._progress(path.name, at + done, size))
        status, answered, text = await self._remote.send("PATCH", where, body, fields, asks_first=True)
        if status in _AGAIN:
            raise TransferError("the upload stands elsewhere", zh="上传进度不一致，正在重试")
        if status != 204:
            raise refusal(status, text)
        return int(answered.get("Upload-Offset", "0"))

    async def _checked(self, where: str) -> dict[str, Any]:
        while True:
            told: dict[str, Any] = await self._remote.ask_again("GET", where, self._delays_s)
            if told["state"] in {"ready", "refused"}:
                return told
            if told["state"] == "receiving":
                raise TransferError("the origin lost bytes that it had counted", zh="源站数据缺失，请重新运行")
            await asyncio.sleep(_CHECK_S)


async def _portions(path: Path, at: int, count: int, told: Callable[[int], None]) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        done = 0
        while done < count:
            data = await asyncio.to_thread(os.pread, file.fileno(), min(_READ_BYTES, count - done), at + done)
            if not data:
                return  # cut short meanwhile; the request fails, and whoever sends looks at the file again
            done += len(data)
            yield data
            told(done)
    finally:
        file.close()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
