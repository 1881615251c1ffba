"""Bytes by name: /metadata/NAME, /targets/NAME, /blobs/SHA256 and /media/ID/NAME.

What is found becomes an `Entry` (an open file with its header blocks) or a small document in memory. Nothing is looked
up by a path from outside: names are checked first, and files are opened by digest.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import msgspec

from edge.serve.entries import Document, Entry, open_entry
from edge.serve.problems import NotHereError, not_here, unknown
from edge.serve.stock import Stock
from edge.store.faults import storage_error
from manifests.cities import target_of
from manifests.digests import Digest, digest_of, dump_etag, dump_repr_digest, is_digest
from manifests.errors import InputError
from manifests.model import Courseware, File
from manifests.names import Region, is_metadata_name
from manifests.pieces import BlobRef
from manifests.ranges import Representation

IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
NOSNIFF = ("X-Content-Type-Options", "nosniff")
MAX_METADATA_BYTES = 8 * 1024 * 1024

_CATALOG = "catalog.json"
# What a browser shows without running anything; other types are shut off from the portal's origin.
_HARMLESS = ("video/", "audio/", "image/jpeg", "image/png", "image/webp", "image/gif", "application/pdf", "text/vtt")


async def find_blob(stock: Stock, name: str) -> Entry:
    """The blob of that digest.

    Raises:
        NotFoundError: the caller's client asked for what is not offered.
        NotHereError: it is offered by the catalog, but not stored here.
        StorageError: environment.
    """
    if not is_digest(name):
        raise unknown(f"blob {name[:80]!r}")
    digest = Digest(name)
    size = await asyncio.to_thread(stock.store.size, digest)
    if size is None:
        if (await stock.offered()).has_blob(digest):
            raise not_here(f"blob {digest[:16]}…")
        raise unknown(f"blob {digest[:16]}…")
    what = represent(digest, size, "application/octet-stream", IMMUTABLE)
    return await _open(stock, what, digest)


async def find_target(stock: Stock, name: str) -> Entry:
    """The target of that name: a catalog that the newest verified release names.

    Raises:
        NotFoundError: no such target.
        NotHereError: its blob has not come yet.
        StorageError: environment.
    """
    folder, slash, last = name.rpartition("/")
    ref = _catalog_in(stock, folder + slash)
    if ref is None or last not in {_CATALOG, f"{ref.digest}.{_CATALOG}"}:
        raise unknown(f"target {name[:120]!r}")
    size = await asyncio.to_thread(stock.store.size, ref.digest)
    if size is None:
        raise not_here(f"target {name!r}")
    cache = IMMUTABLE if last != _CATALOG else REVALIDATE
    return await _open(stock, represent(ref.digest, size, "application/json", cache), ref.digest)


def _catalog_in(stock: Stock, folder: str) -> BlobRef | None:
    """The catalog that is published in a folder of the targets: the province's at their top, each city's below."""
    if stock.trust is None:
        return None
    folders = {target_of(Region(one.city)).removesuffix(_CATALOG): one.catalog for one in stock.trust.cities}
    return {"": stock.trust.catalog, **folders}.get(folder)


async def find_media(stock: Stock, courseware: str, name: str) -> Entry:
    """A file of an installed lesson by its stable name.

    Raises:
        NotFoundError: unknown, recalled, or its time is over.
        NotHereError: offered by the catalog but not installed, or its bytes were lost.
        StorageError: environment.
    """
    try:
        return await _find_media(stock, courseware, name)
    except NotHereError:
        if courseware not in stock.shelf.lessons:
            raise
    await stock.look()  # the shelf is a moment old: the bytes may be gone because the lesson is
    return await _find_media(stock, courseware, name)


async def _find_media(stock: Stock, courseware: str, name: str) -> Entry:
    name = unicodedata.normalize("NFC", name)
    what = f"{courseware[:64]}/{name[:60]!a}"
    file = stock.shelf.file(courseware, name)
    if file is None:
        if courseware not in stock.shelf.lessons and (await stock.offered()).has_file(courseware, name, stock.now()):
            raise not_here(what)
        raise unknown(what)
    digest = Digest(file.blob)
    if await asyncio.to_thread(stock.store.size, digest) is None:
        raise not_here(what)
    return await _open(stock, represent_file(file), digest, courseware)


async def find_metadata(stock: Stock, name: str) -> Document:
    """A role file as this edge verified it.

    Raises:
        NotFoundError: no such file, or another version.
        StorageError: environment.
    """
    if not is_metadata_name(name):
        raise unknown(f"metadata {name[:80]!r}")
    document = await asyncio.to_thread(_read_metadata, stock.paths.trust, name)
    if document is None:
        raise unknown(f"metadata {name!r}")
    return document


def represent(
    digest: Digest, size: int, media_type: str, cache: str, more: Sequence[tuple[str, str]] = ()
) -> Representation:
    """A representation whose validator is its digest."""
    fields = (("Cache-Control", cache), ("Repr-Digest", dump_repr_digest(digest)), NOSNIFF, *more)
    return Representation(size, dump_etag(digest), media_type, fields)


def represent_file(file: File) -> Representation:
    """A file under its stable name: it may be revised, so it is asked for again each time and mostly answered 304."""
    more: list[tuple[str, str]] = []
    media_type = file.media_type
    if file.role == "document":
        more.append(("Content-Disposition", f"inline; filename*=UTF-8''{quote(file.name, safe='')}"))
    if not media_type.startswith(_HARMLESS):
        more.append(("Content-Security-Policy", "default-src 'none'; sandbox"))
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    return represent(Digest(file.blob), file.size, media_type, REVALIDATE, more)


def poster_url(item: Courseware) -> str:
    """Where the picture that stands for a courseware lies: its poster, else its first picture; empty for none."""
    ranked = {"poster": 0, "picture": 1}
    found = min((file for file in item.files if file.role in ranked), key=lambda one: ranked[one.role], default=None)
    return media_url(item, found) if found else ""


def media_url(item: Courseware, file: File) -> str:
    """The stable address of a file."""
    return f"/media/{item.id}/{quote(file.name, safe='')}"


def split_path(raw_path: str) -> list[str]:
    """Decode a request's path into its segments; what follows `?` is left out.

    Raises:
        InputError: bad data; a segment is not percent-encoded UTF-8.
    """
    try:
        return [unquote_to_bytes(part).decode("utf-8") for part in raw_path.partition("?")[0].split("/")[1:]]
    except UnicodeError as error:
        raise InputError("the address is not UTF-8", zh="地址编码有误，应为 UTF-8") from error


async def _open(stock: Stock, what: Representation, digest: Digest, courseware: str = "") -> Entry:
    try:
        return await asyncio.to_thread(open_entry, stock.store.path(digest), what, digest, courseware)
    except FileNotFoundError as error:
        raise not_here(f"blob {digest[:16]}…") from error
    except OSError as error:
        raise storage_error(error, f"opening blob {digest[:16]}…") from error


class _Signed(msgspec.Struct):
    version: int = 0


class _Role(msgspec.Struct):
    signed: _Signed


def _read_metadata(trust: Path, name: str) -> Document | None:
    """Map a published name to the file that tuf's client keeps: roots by version, the others only at their newest."""
    version, _, rest = name.rpartition(".json")[0].rpartition(".")
    role = f"{rest}.json"
    path = trust / "root_history" / name if version and role == "root.json" else trust / role
    try:
        with path.open("rb") as file:
            data = file.read(MAX_METADATA_BYTES)
            digest = digest_of(data)
            cache = IMMUTABLE if name[0].isdigit() else REVALIDATE
            what = represent(digest, len(data), "application/json", cache)
            document = Document(file.fileno(), path, what, digest, data)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, f"reading {name}") from error
    if version and role != "root.json":
        try:
            if msgspec.json.decode(data, type=_Role).signed.version != int(version):
                return None
        except msgspec.DecodeError:
            return None
    return document
