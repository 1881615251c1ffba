"""The one seam between the origin and wherever its blobs lie.

Eight methods, so that local disk and object storage can both be it. Bytes come in as a staged file whose digest was
already computed (an object store uploads it in parts and drops it), and go out as ranges. A blob is there whole or not
at all: nobody sees one half written. `tests/support/storage_contract.py` holds every implementation to this page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from manifests.digests import Digest

PORTION_BYTES = 1024 * 1024  # each portion costs a thread hop; below 1 MiB the hops cost more than the reading


class BlobStorage(Protocol):
    """Blobs by digest."""

    async def size(self, digest: Digest) -> int | None:
        """Length of a blob in bytes, None when it is not here."""
        ...

    async def put(self, staged: Path, digest: Digest, size: int) -> None:
        """Take over a staged file, durably; afterwards `staged` is gone, also when the blob was here before.

        Args:
            staged: a complete file within the origin's staging directory.
            digest: the SHA-256 of its bytes, computed by the caller while it wrote them.
            size: its length; a file of another length is refused.

        Raises:
            StorageFullError: environment; nothing is stored, `staged` is left to the caller.
            StorageError: environment, or the file is not `size` bytes long; likewise.
        """
        ...

    def read(self, digest: Digest, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the half-open range in portions of at most a few MiB.

        Raises:
            NotFoundError: bad data; no such blob.
            StorageDamagedError: environment; the blob ends before `stop`.
            StorageError: environment; it cannot be read.
        """
        ...

    async def delete(self, digest: Digest) -> bool:
        """Remove a blob; False when it was not here.

        Raises:
            StorageError: environment.
        """
        ...

    def local_path(self, digest: Digest) -> Path | None:
        """The blob as a file of this machine, for sendfile and mmap; None when it is elsewhere or not here."""
        ...

    async def address(self, digest: Digest) -> str | None:
        """Where anybody may fetch the blob without an account, for a while; None to read it here, or it is not here.

        The address is a secret for as long as it is good: it goes to whoever asked, and into no log.

        Raises:
            StorageError: environment.
        """
        ...

    async def sweep(self) -> int:
        """Give up what broken-off uploads left and nobody went on with; returns how many.

        Raises:
            StorageError: environment.
        """
        ...

    def digests(self) -> AsyncIterator[Digest]:
        """Every blob that is here, sorted; for copying and backups.

        Raises:
            StorageError: environment.
        """
        ...
