"""The content endpoints, the same on origin and edge: /metadata/NAME, /targets/NAME, /blobs/SHA256.

Names are checked by their rules before they become a path, so there is nothing to traverse. What is not here is
answered with an empty 404: an edge asks for the next root at every poll, and its line counts bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from aiohttp import web

from manifests.cities import city_of_role
from manifests.digests import Digest, digest_of, dump_etag, dump_repr_digest, is_digest
from manifests.errors import StorageDamagedError
from manifests.names import is_metadata_name
from manifests.ranges import Representation
from origin.metrics import Metrics
from origin.storage.base import BlobStorage
from origin.storage.faults import storage_error
from origin.web.answers import Answerer, Body, Stored

IMMUTABLE = "public, max-age=31536000, immutable"
CATALOG = "catalog.json"
# Sent by an edge that follows a redirect to an object store; nobody else is given one.
REDIRECTS = ("Yuanjiao-Redirects", "1")
_METADATA_KEPT = 64  # files; a release has four, edges ask for the newest

CurrentCatalog = Callable[[str], Awaitable[Digest | None]]
"""Gives the name of a publisher's catalog blob in the current release; empty for the province."""


Refresh = Callable[[], Awaitable[None]]
"""Brings the directory to what was signed last, by whichever process; never fails."""


@dataclass(frozen=True, slots=True)
class _Metadata:
    stamp: tuple[int, int, int]
    data: bytes
    digest: Digest


class MetadataFiles:
    """Signed role files, kept in memory until they change on disk (they are replaced by rename, so never half new)."""

    def __init__(self, directory: Path, refresh: Refresh | None = None) -> None:
        self._directory = directory
        self._refresh = refresh
        self._kept: dict[str, _Metadata] = {}

    async def refresh(self) -> None:
        """Have the newest files here, where other processes sign some."""
        if self._refresh is not None:
            await self._refresh()

    async def get(self, name: str) -> tuple[bytes, Digest] | None:
        """Read one by name, None when there is none anywhere.

        Raises:
            StorageError: environment.
        """
        if not is_metadata_name(name):
            return None
        if not name[0].isdigit():
            await self.refresh()
            return await self._here(name)
        found = await self._here(name)
        if found is None and self._refresh is not None:
            await self.refresh()
            found = await self._here(name)
        return found

    async def _here(self, name: str) -> tuple[bytes, Digest] | None:
        try:
            path = self._directory / await asyncio.to_thread(self._newest, name)
            stamp = _stamp(path.stat())
            kept = self._kept.get(name)
            if kept is None or kept.stamp != stamp:
                data = await asyncio.to_thread(path.read_bytes)
                kept = _Metadata(stamp, data, digest_of(data))
                if len(self._kept) >= _METADATA_KEPT:
                    self._kept.clear()
                self._kept[name] = kept
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, f"reading metadata {name}") from error
        return kept.data, kept.digest

    def _newest(self, name: str) -> str:
        """The numbered file that a bare name means in the release which the timestamp names."""
        if name[0].isdigit() or name == "timestamp.json":
            return name
        if name == "root.json":
            numbers = [int(path.name.partition(".")[0]) for path in self._directory.glob("[1-9]*.root.json")]
            return f"{max(numbers, default=0)}.root.json"
        version = self._version("timestamp.json", "snapshot.json")
        if name == "targets.json":
            version = self._version(f"{version}.snapshot.json", "targets.json")
        return f"{version}.{name}"

    def _version(self, role: str, part: str) -> int:
        try:
            signed = json.loads((self._directory / role).read_bytes())["signed"]
            return int(signed["meta"][part]["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise StorageDamagedError(f"metadata {role} is damaged", zh=f"签名清单 {role} 已损坏") from error


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_size, found.st_ino


class Content:
    """Handlers of the content endpoints."""

    def __init__(
        self,
        storage: BlobStorage,
        metadata: Path,
        current: CurrentCatalog,
        metrics: Metrics,
        stall_s: float,
        refresh: Refresh | None = None,
    ) -> None:
        self._storage = storage
        self._metadata = MetadataFiles(metadata, refresh)
        self._current = current
        self._metrics = metrics
        self._answerer = Answerer(metrics, stall_s)

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application (GET also takes HEAD)."""
        return [
            web.get("/metadata/{name}", self.metadata),
            web.get("/targets/{name}", self.targets),
            web.get("/targets/cities/{city}/{name}", self.targets),
            web.get("/blobs/{name}", self.blobs),
        ]

    async def metadata(self, request: web.Request) -> web.StreamResponse:
        """A signed role file; versioned names never change, the others are asked for every time."""
        name = request.match_info["name"]
        found = await self._metadata.get(name)
        if found is None:
            return self._absent("metadata")
        data, digest = found
        caching = IMMUTABLE if name[0].isdigit() else "no-cache"
        return await self._answerer.answer(
            request, "metadata", _representation(digest, len(data), "application/json", caching), data
        )

    async def targets(self, request: web.Request) -> web.StreamResponse:
        """A catalog: by its target name, or with its digest before it (a consistent snapshot)."""
        name, city = request.match_info["name"], request.match_info.get("city", "")
        if city and city_of_role(f"cities-{city}") is None:
            return self._absent("targets")
        if name == CATALOG:
            await self._metadata.refresh()
            digest = await self._current(city)
            if digest is not None:
                return await self._blob(request, "targets", digest, "application/json", "no-cache")
        prefix, dot, target = name.partition(".")
        if dot and target == CATALOG and is_digest(prefix):
            return await self._blob(request, "targets", Digest(prefix), "application/json", IMMUTABLE)
        return self._absent("targets")

    async def blobs(self, request: web.Request) -> web.StreamResponse:
        """A blob by digest."""
        name = request.match_info["name"]
        if not is_digest(name):
            return self._absent("blobs")
        if request.method == "GET" and request.headers.get(REDIRECTS[0]) == REDIRECTS[1]:
            address = await self._storage.address(Digest(name))
            if address is not None:
                return self._elsewhere(address)
        return await self._blob(request, "blobs", Digest(name), "application/octet-stream", IMMUTABLE)

    async def _blob(
        self, request: web.Request, resource: str, digest: Digest, media_type: str, caching: str
    ) -> web.StreamResponse:
        path = self._storage.local_path(digest)
        opened = None if path is None else await asyncio.to_thread(_open, path)
        try:
            size = await self._storage.size(digest) if opened is None else opened[1]
            if size is None:
                return self._absent(resource)
            body: Body = Stored(self._storage, digest) if opened is None else opened[0]
            return await self._answerer.answer(
                request, resource, _representation(digest, size, media_type, caching), body
            )
        finally:
            if opened is not None:
                opened[0].close()

    def _elsewhere(self, address: str) -> web.StreamResponse:
        self._metrics.count("redirects")
        self._metrics.count("answers", resource="blobs", status="307")
        self._metrics.count("answers_completed", resource="blobs")
        # 307 has no body and is kept by nobody: the address ends soon, and other clients follow none.
        return web.Response(status=307, headers={"Location": address, "Cache-Control": "no-store"})

    def _absent(self, resource: str) -> web.StreamResponse:
        self._metrics.count("answers", resource=resource, status="404")
        self._metrics.count("answers_completed", resource=resource)
        return web.Response(status=404)


def _representation(digest: Digest, size: int, media_type: str, caching: str) -> Representation:
    fields = (("Repr-Digest", dump_repr_digest(digest)), ("Cache-Control", caching))
    return Representation(size, dump_etag(digest), media_type, fields)


def _open(path: Path) -> tuple[FileIO, int] | None:
    try:
        file = FileIO(path, "rb")
    except FileNotFoundError:
        return None  # collected between looking and opening
    except OSError as error:
        raise storage_error(error, f"opening blob {path.name[:16]}…") from error
    return file, os.fstat(file.fileno()).st_size
