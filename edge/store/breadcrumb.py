"""catalogs.json: which catalogs are kept here. With the blobs it is enough to rebuild the index from the disk.

It is no source of trust: a catalog that it names must still prove, and the signed metadata stay under `trust/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from edge.store.disk import replace_file
from edge.store.faults import is_lost, storage_error
from manifests.digests import Digest
from manifests.model import Bytes, Hex64, PieceBytes
from manifests.pieces import PIECE_SIZE, BlobRef

FORMAT = "yuanjiao-edge-catalogs"
# The newest, and older ones from which installed items may still come while their new versions are incomplete.
KEPT_CATALOGS = 4

log = structlog.get_logger(__name__)


class KeptCatalog(msgspec.Struct, frozen=True, omit_defaults=True):
    """One kept catalog: its version and the blob that it is."""

    version: int
    digest: Hex64
    size: Bytes
    table: Hex64 | None = None
    piece_size: PieceBytes = PIECE_SIZE

    @property
    def ref(self) -> BlobRef:
        """The catalog as a blob."""
        return BlobRef(Digest(self.digest), self.size, Digest(self.table) if self.table else None, self.piece_size)


class _Document(msgspec.Struct, frozen=True, omit_defaults=True):
    format: str
    catalogs: tuple[KeptCatalog, ...]
    cities: dict[str, KeptCatalog] = {}


def kept_catalog(version: int, ref: BlobRef) -> KeptCatalog:
    """Describe a catalog for the breadcrumb."""
    return KeptCatalog(version, ref.digest, ref.size, ref.table, ref.piece_size)


def write_breadcrumb(
    path: Path, catalogs: Sequence[KeptCatalog], cities: Mapping[str, KeptCatalog] | None = None
) -> None:
    """Replace the breadcrumb, newest catalog first; of each city the newest only.

    Raises:
        StorageError: environment.
    """
    ordered = tuple(sorted(catalogs, key=lambda one: -one.version))
    text = msgspec.json.format(msgspec.json.encode(_Document(FORMAT, ordered, dict(cities or {}))), indent=2)
    replace_file(path, text + b"\n")


def read_breadcrumb(path: Path) -> tuple[KeptCatalog, ...]:
    """Read the province's, newest first; empty when there is none, or none that can be read.

    Raises:
        StorageError: environment; it is there and may not be read.
    """
    return _read(path).catalogs


def read_cities(path: Path) -> dict[str, KeptCatalog]:
    """The same for cities, by code."""
    return _read(path).cities


def _read(path: Path) -> _Document:
    if not path.exists():
        return _Document(FORMAT, ())
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and not is_lost(error):
            raise storage_error(error, "reading catalogs.json", "读取 catalogs.json") from error
        log.warning("breadcrumb_unreadable", reason=str(error))
        return _Document(FORMAT, ())
    return document if document.format == FORMAT else _Document(FORMAT, ())
