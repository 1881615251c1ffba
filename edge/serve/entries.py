"""Open files ready to be sent: one entry per requested path, in a bounded cache.

An entry owns one descriptor and counts who is sending from it. Leaving the cache only marks it; the descriptor is
closed when the last sender is done, so that a number reused by the system is never read by mistake. A revoked entry
(its lesson was recalled) also makes senders break off at their next turn.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from edge.serve.heads import Heads
from manifests.digests import Digest
from manifests.errors import StorageDamagedError
from manifests.ranges import Representation

# A document's path is looked at so often at most.
LOOK_S = 0.02


class Entry:
    """One representation with its open file and header blocks; used from the event loop's thread only."""

    __slots__ = (
        "__weakref__",
        "_retired",
        "_users",
        "courseware",
        "data",
        "digest",
        "file",
        "heads",
        "is_media",
        "path",
        "revoked",
        "stamp",
        "token",
        "uses",
        "what",
    )

    data: bytes | None

    def __init__(self, file: int, path: Path, what: Representation, digest: Digest, courseware: str) -> None:
        self.file = file
        self.data = None  # all of it, where that is small
        self.path = path
        self.stamp = stamp_of(os.fstat(file))
        self.what = what
        self.heads = Heads(what)
        self.digest = digest
        self.courseware = courseware
        self.is_media = bool(courseware)  # asked for as a lesson's file, and not by its digest
        self.revoked = False
        self.token = -1  # the library's change token at which its blob was last found to be here
        self.uses = -1  # answers begun at its first byte since this was last told; -1: none at all
        self._users = 0
        self._retired = False

    def is_touched(self) -> bool:
        """Whether the open file was written to or cut since: a repair works on the very file that rotted."""
        return stamp_of(os.fstat(self.file)) != self.stamp

    def count(self, *, is_first: bool) -> None:
        """Count an answer; `is_first` when it begins with the first byte, as watching does."""
        self.uses = max(self.uses, 0) + is_first

    def acquire(self) -> None:
        """Begin to send from it."""
        self._users += 1

    def release(self) -> None:
        """End sending; the last one out closes a retired entry."""
        self._users -= 1
        if self._retired and self._users == 0:
            os.close(self.file)

    def retire(self) -> None:
        """Leave the cache; safe while others are sending."""
        if not self._retired:
            self._retired = True
            if self._users == 0:
                os.close(self.file)


class Document(Entry):
    """A small file that was read whole; it is good while the same file lies at its path.

    It is replaced as a whole, so that what was right a moment ago is no wrong answer: its path is not looked at anew
    for each of the thousand requests that such a moment may bring.
    """

    __slots__ = ("_looked_s",)

    def __init__(self, file: int, path: Path, what: Representation, digest: Digest, data: bytes) -> None:
        """Take what was read from the open `file`, which stays the caller's."""
        super().__init__(file, path, what, digest, "")
        self.file = -1
        self.data = data
        self._looked_s = -LOOK_S

    def is_touched(self) -> bool:
        """Whether another file was put in its place, or this one was written to; as of a moment ago at most."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return False
        self._looked_s = now_s
        try:
            return stamp_of(os.stat(self.path)) != self.stamp  # noqa: PTH116 - called for each request
        except OSError:
            return True

    def release(self) -> None:
        """Nothing is open."""

    def retire(self) -> None:
        """Nothing is open."""


def stamp_of(stat: os.stat_result) -> tuple[int, int, int]:
    """What tells a file from another and from itself after a write; a rename or a new owner changes nothing."""
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def open_entry(path: Path, what: Representation, digest: Digest, courseware: str = "") -> Entry:
    """Open a blob's file and check that it is as long as it must be (in a thread: a sleeping disk takes seconds).

    Args:
        path: where the blob is.
        what: the representation to serve.
        digest: the blob's name.
        courseware: id of the lesson that it is asked for; empty for a blob asked by its digest.

    Raises:
        FileNotFoundError: environment; it is not here.
        StorageDamagedError: environment; its length is wrong.
        OSError: environment; the disk cannot be read.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check_size(os.fstat(file).st_size, what.size, digest)
        return Entry(file, path, what, digest, courseware)
    except BaseException:  # whatever it was, the descriptor is ours until an entry holds it
        os.close(file)
        raise


def _check_size(found: int, wanted: int, digest: Digest) -> None:
    if found != wanted:
        raise StorageDamagedError(
            f"blob {digest[:16]}… is {found} bytes on disk, {wanted} were stored",
            zh=f"数据块 {digest[:16]}… 在磁盘上为 {found} 字节，应为 {wanted} 字节",
        )


class EntryCache:
    """The entries in use, least recently asked first out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        # Also those that left the cache while somebody was still sending from them.
        self._alive: weakref.WeakSet[Entry] = weakref.WeakSet()

    def __len__(self) -> int:
        """Entries held, each with one descriptor."""
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        """The entry for a request's path; one whose file was written to is dropped, so that it is looked for again."""
        found = self._entries.get(key)
        if found is None:
            return None
        if found.is_touched():
            del self._entries[key]
            found.retire()
            return None
        self._entries.move_to_end(key)
        return found

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry; another one under the same key is retired."""
        old = self._entries.pop(key, None)
        if old is not None:
            old.retire()
        self._entries[key] = entry
        self._alive.add(entry)
        while len(self._entries) > self._most:
            _, oldest = self._entries.popitem(last=False)
            oldest.retire()

    def watch(self, entry: Entry) -> None:
        """Look after an entry that is kept elsewhere: it is revoked when its blob is gone."""
        self._alive.add(entry)

    def alive(self) -> tuple[Entry, ...]:
        """All entries in the cache or being sent."""
        return tuple(self._alive)

    def clear(self) -> None:
        """Forget all entries; who is sending goes on."""
        entries = list(self._entries.values())
        self._entries.clear()
        for entry in entries:
            entry.retire()

    def revoke(self, is_gone: Callable[[Entry], bool]) -> None:
        """Break off the sending of what is gone, wherever it is in a file."""
        for entry in list(self._alive):
            if is_gone(entry):
                entry.revoked = True
