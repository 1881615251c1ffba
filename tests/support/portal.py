"""An edge with something to show, made without an origin, and served in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from support.edge_store import Made, make_blob, store_blob
from support.raw_http import Connection, Reply

from edge.paths import Paths
from edge.serve.server import serve
from edge.store.blobs import BlobStore
from edge.store.library import Library
from edge.sync.freshness import RoleState, TrustState
from manifests.bundle import BUNDLE_FORMAT, BUNDLE_MAJOR, Bundle, encode_bundle
from manifests.catalog import encode_catalog
from manifests.digests import digest_of
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.model import FORMAT, MAJOR, Catalog, Column, Courseware, File, Recall
from manifests.pieces import BlobRef

NOW = parse_instant("2026-11-24T04:00:00Z")
DAY = 86400
COLUMNS = (Column("nongye", "农业技术", 1), Column("dangjian", "党建学习", 2), Column("kong", "空专栏", 3))


class HandClock:
    """A clock that a test moves."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> Instant:
        return Instant(self.now)


def small(data: bytes) -> Made:
    """Known bytes as a blob of one piece."""
    made = make_blob(0)
    return Made(data, BlobRef(digest_of(data), len(data)), made.table, b"")


def file_of(blob: Made, name: str, role: str = "video", media_type: str = "video/mp4", **more: object) -> File:
    ref = blob.ref
    return File(role, name, media_type, ref.digest, ref.size, ref.table, ref.piece_size, **more)  # type: ignore[arg-type]


def lesson(
    courseware_id: str,
    *files: File,
    title: str = "小麦春季管理",
    kind: str = "video",
    columns: tuple[str, ...] = ("nongye",),
    version: int = 1,
    published: int = NOW - DAY,
    **more: object,
) -> Courseware:
    return Courseware(
        courseware_id,
        version,
        title,
        kind,  # type: ignore[arg-type]
        ("410000",),
        dump_instant(Instant(published)),
        files,
        columns,
        **more,  # type: ignore[arg-type]
    )


class Shop:
    """An edge's directory, filled by hand."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root)
        self.store = BlobStore.open(self.paths)
        self.library = Library(self.store)
        self.version = 0
        self.paths.settings.write_text("[serve]\nhost = '127.0.0.1'\nstall_s = 2.0\nshutdown_s = 2.0\n", "utf-8")
        bundle = Bundle(
            BUNDLE_FORMAT,
            BUNDLE_MAJOR,
            "410000",
            "410122",
            "中牟县",
            ("http://127.0.0.1:9",),
            "{}",
            dump_instant(NOW),
        )
        self.paths.bundle.write_bytes(encode_bundle(bundle))

    def put(self, *blobs: Made) -> None:
        for blob in blobs:
            store_blob(self.store, blob)

    def install(
        self,
        *items: Courseware,
        removed: Sequence[str] = (),
        recalls: tuple[Recall, ...] = (),
        offered: Sequence[Courseware] = (),
        columns: tuple[Column, ...] = COLUMNS,
        checked_at: int = NOW,
        expires: int = NOW + DAY,
    ) -> BlobRef:
        """Install and pretend that the release with this catalog (and what it also offers) was verified."""
        self.version += 1
        gone = {*removed, *(recall.id for recall in recalls)}
        whole = self.library.installed() | {item.id: item for item in (*items, *offered)}
        catalog = Catalog(
            FORMAT,
            MAJOR,
            "410000",
            self.version,
            dump_instant(Instant(checked_at)),
            columns=columns,
            courseware=tuple(item for key, item in sorted(whole.items()) if key not in gone),
            recalls=recalls,
        )
        data = encode_catalog(catalog)
        blob = make_blob_of(data)
        self.put(blob)
        self.library.install(items, removed, recalls, columns, self.version, blob.ref)
        self.trust(blob.ref, checked_at, expires)
        return blob.ref

    def trust(self, ref: BlobRef, checked_at: int = NOW, expires: int = NOW + DAY) -> None:
        role = RoleState(1, Instant(NOW + 3650 * DAY), ())
        state = TrustState(
            self.version,
            ref.digest,
            ref.size,
            role,
            RoleState(self.version, Instant(expires), ()),
            role,
            role,
            Instant(checked_at),
            Instant(checked_at),
            ref.table,
            ref.piece_size,
        )
        self.paths.trust_state.write_bytes(msgspec.json.encode(state))

    def close(self) -> None:
        self.store.close()


def make_blob_of(data: bytes) -> Made:
    """Known bytes as a blob, with a piece table when they need one."""
    from manifests.pieces import PIECE_SIZE, TableBuilder, parse_table

    builder = TableBuilder(PIECE_SIZE)
    builder.update(data)
    table_data = builder.finish()
    table = digest_of(table_data) if len(data) > PIECE_SIZE else None
    return Made(
        data, BlobRef(digest_of(data), len(data), table), parse_table(table_data, len(data), PIECE_SIZE), table_data
    )


@asynccontextmanager
async def served(
    root: Path,
    clock: HandClock | None = None,
    workers: int = 1,
    env: Mapping[str, str] | None = None,
    port: int = 0,
) -> AsyncIterator[int]:
    """Serve until the block ends; gives the port."""
    stop = asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(root, "127.0.0.1", port, workers, env or {}, clock or HandClock(), ready.set_result, stop=stop)
    )
    await asyncio.wait({task, ready}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield int(ready.result().rpartition(":")[2])
    finally:
        stop.set()
        await asyncio.wait_for(task, 60)


async def get(port: int, path: str, method: str = "GET", **headers: str) -> Reply:
    """One request on a connection of its own."""
    connection = await Connection.open(port)
    try:
        return await connection.request(path, method, **headers)
    finally:
        await connection.close()
