"""A whole province in memory: keys, catalog, blobs, signed releases, and sites that serve them over real sockets.

It signs with python-tuf itself, so what it serves is what a real origin would. Each test bends it: publish, revise,
recall, expire, rotate keys, serve an old release, mix releases, flip a byte. A `Site` is one server with its own copy
of what it serves, so a sibling can lag behind or lie while the origin is well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Delegations, Metadata, MetaFile, Role, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from manifests.bundle import Bundle, encode_bundle
from manifests.catalog import encode_catalog
from manifests.digests import digest_of
from manifests.instants import Instant, dump_instant
from manifests.model import Catalog, CatalogTarget, Column, Courseware, File, Patch, Recall
from manifests.patches import encode_patch, plan_patch
from manifests.pieces import PIECE_SIZE, BlobRef, TableBuilder
from manifests.ranges import Representation, plan_answer

NOON = Instant(1_795_000_000)  # 2026-11-18
HOUR = 3600
DAY = 24 * HOUR
PROVINCE = "410000"
COUNTY = "410122"
_COMPACT = JSONSerializer(compact=True)


class ManualClock:
    """A clock that stands until a test moves it."""

    def __init__(self, at: int = NOON) -> None:
        self.at = Instant(at)

    def __call__(self) -> Instant:
        return self.at

    def move(self, seconds: int) -> None:
        self.at = Instant(self.at + seconds)


@dataclass
class Content:
    """What a site serves: paths under /metadata and blobs by digest."""

    metadata: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def copy(self) -> Content:
        return Content(dict(self.metadata), dict(self.blobs))

    def flip(self, digest: str, at: int) -> None:
        """Flip one bit of a blob, as rot or a liar would."""
        data = bytearray(self.blobs[digest])
        data[at] ^= 1
        self.blobs[digest] = bytes(data)


class Site:
    """One HTTP server over some content; counts what is asked of it."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.requests: list[tuple[str, str]] = []
        self.bytes_sent = 0
        self.url = ""
        self.before: Callable[[str], None] | None = None
        self.hold: asyncio.Event | None = None  # bodies of blobs wait for it, but for piece tables and catalogs

    def asked(self, part: str) -> int:
        """How many requests had `part` in their path."""
        return sum(part in path for path, _ in self.requests)

    def forget(self) -> None:
        self.requests.clear()
        self.bytes_sent = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, request.headers.get("Range", "")))
        if self.before is not None:
            self.before(request.path)
        _, kind, name = request.path.split("/", 2)
        data = (self.content.metadata if kind == "metadata" else self.content.blobs).get(name)
        if data is None:
            return web.Response(status=404)
        what = Representation(len(data), f'"{name}"', "application/octet-stream")
        answer = plan_answer(request.method, request.headers, what)
        body = b"".join(part.literal + data[part.range.start : part.range.stop] for part in answer.parts if part.range)
        if self.hold is not None and len(data) > PIECE_SIZE:
            await self.hold.wait()
        self.bytes_sent += len(body)
        return web.Response(status=answer.status, headers=dict(answer.fields), body=body)

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[Site]:
        app = web.Application()
        app.router.add_get("/{kind:metadata|blobs}/{name}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


class Province:
    """Signs releases. `content` is what an honest, current site serves.

    Args:
        clock: its own clock; signatures carry its time.
        hours: how long a timestamp is valid.
    """

    def __init__(self, clock: ManualClock, *, region: str = PROVINCE, hours: int = 24) -> None:
        self.clock = clock
        self.region = region
        self.hours = hours
        self.content = Content()
        self.lessons: dict[str, Courseware] = {}
        self.recalls: dict[str, Recall] = {}
        self.columns = (Column("zl-one", "农业技术", 1), Column("zl-two", "党员教育", 2))
        self.catalog_version = 0
        self.catalogs: list[BlobRef] = []
        self.catalog_patches = True
        self.versions = {"snapshot": 0, "targets": 0, "timestamp": 0}
        self.delegations: Delegations | None = None
        self.cities: dict[str, int] = {}  # versions of cities' roles, see `support.cities`
        self.signers = {role: CryptoSigner.generate_ed25519() for role in ("root", "targets", "snapshot", "timestamp")}
        self.root = Root(version=1, consistent_snapshot=True, expires=self._after(3650 * DAY))
        self.root.roles = {role: Role([], 1) for role in self.signers}
        for role, signer in self.signers.items():
            self.root.add_key(signer.public_key, role)
        self._write_root([self.signers["root"]])

    # Lessons

    def blob(self, data: bytes) -> BlobRef:
        """Store bytes, and their piece table when they have one."""
        digest = digest_of(data)
        self.content.blobs[digest] = data
        table = None
        if len(data) > PIECE_SIZE:
            builder = TableBuilder()
            builder.update(data)
            text = builder.finish()
            table = digest_of(text)
            self.content.blobs[table] = text
        return BlobRef(digest, len(data), table)

    def patch(self, old: str, new: bytes) -> Patch:
        """Make and store a patch from the blob named `old`."""
        parts: list[bytes] = []
        data = self.content.blobs[old]
        encode_patch(data, new, plan_patch(data, new), parts.append)
        ref = self.blob(b"".join(parts))
        return Patch(old, ref.digest, ref.size, ref.table)

    def lesson(self, id_: str, files: dict[str, bytes], *, patches: bool = True, **fields: Any) -> Courseware:
        """Put a lesson, or a new version of one, into the next release."""
        before = self.lessons.get(id_)
        recalled = self.recalls.get(id_)
        known = {file.name: file for file in before.files} if before else {}
        version = max(before.version if before else 0, recalled.version if recalled else 0) + 1
        made = []
        for name, data in files.items():
            ref = self.blob(data)
            old = known.get(name)
            listed = (self.patch(old.blob, data),) if patches and old and old.blob != ref.digest else ()
            role, media_type = ("video", "video/mp4") if name.endswith(".mp4") else ("document", "application/pdf")
            made.append(File(role, name, media_type, ref.digest, ref.size, ref.table, patches=listed))
        fields = {"title": f"第{version}版 {id_}", "kind": "video", "columns": ("zl-one",), **fields}
        fields = {"audience": (self.region,), "published": dump_instant(self.clock()), **fields}
        self.lessons[id_] = Courseware(id=id_, version=version, files=tuple(made), **fields)
        return self.lessons[id_]

    def remove(self, id_: str) -> None:
        """Take a lesson out of the next release, without a word."""
        del self.lessons[id_]

    def recall(self, id_: str, reason: str = "内容有误") -> None:
        """Recall a lesson in the next release."""
        item = self.lessons.pop(id_)
        self.recalls[id_] = Recall(id_, item.version, reason, dump_instant(self.clock()))

    # Releases

    def release(self, *, edit: Callable[[bytes], bytes] | None = None, **target: Any) -> None:
        """Sign a release of the lessons as they are now.

        Args:
            edit: changes the catalog's bytes before they are signed.
            target: fields of the target's `custom` to bend.
        """
        self.catalog_version += 1
        lessons, recalls = tuple(self.lessons.values()), tuple(self.recalls.values())
        issued = dump_instant(self.clock())
        catalog = Catalog(
            "yuanjiao-catalog", 1, self.region, self.catalog_version, issued, 0, self.columns, lessons, recalls
        )
        data = encode_catalog(catalog)
        ref = self.blob(edit(data) if edit else data)
        data = self.content.blobs[ref.digest]
        patches = tuple(self.patch(old.digest, data) for old in self.catalogs[-3:]) if self.catalog_patches else ()
        self.catalogs.append(ref)
        custom = CatalogTarget(self.catalog_version, ref.table, ref.piece_size, patches)
        self.sign_targets(ref, {**_builtins(custom), **target})
        self.sign_snapshot()
        self.renew()

    def sign_targets(self, ref: BlobRef, custom: dict[str, Any]) -> None:
        self.versions["targets"] += 1
        target = TargetFile(ref.size, {"sha256": ref.digest}, "catalog.json", {"custom": custom})
        signed = Targets(
            version=self.versions["targets"],
            expires=self._after(365 * DAY),
            targets={"catalog.json": target},
            delegations=self.delegations,
        )
        self._write(f"{signed.version}.targets.json", Metadata(signed), "targets")

    def sign_snapshot(self) -> None:
        self.versions["snapshot"] += 1
        {"targets": self.versions["targets"], **self.cities}
        signed = Snapshot(
            version=self.versions["snapshot"],
            expires=self._after(30 * DAY),
            meta={
                f"{role}.json": MetaFile(n) for role, n in {"targets": self.versions["targets"], **self.cities}.items()
            },
        )
        self._write(f"{signed.version}.snapshot.json", Metadata(signed), "snapshot")

    def renew(self, *, by: CryptoSigner | None = None, issued: Instant | None = None) -> None:
        """Sign a new timestamp; `by` another key than the trusted one, when given."""
        self.versions["timestamp"] += 1
        signed = Timestamp(
            version=self.versions["timestamp"],
            expires=self._after(self.hours * HOUR),
            snapshot_meta=MetaFile(self.versions["snapshot"]),
            unrecognized_fields={"x-yuanjiao-issued": dump_instant(issued or self.clock())},
        )
        self._write("timestamp.json", Metadata(signed), "timestamp", by)

    def rotate(self, role: str) -> CryptoSigner:
        """Replace a role's key, sign what it must sign anew, and return the key that is revoked now."""
        old, new = self.signers[role], CryptoSigner.generate_ed25519()
        self.root.revoke_key(old.public_key.keyid, role)
        self.root.add_key(new.public_key, role)
        self.root.version += 1
        self.signers[role] = new
        self._write_root([old, new] if role == "root" else [self.signers["root"]])
        if self.catalogs and role != "root":
            if role == "targets":
                name = f"{self.versions['targets']}.targets.json"
                signed = Metadata[Targets].from_bytes(self.content.metadata[name]).signed
                custom = signed.targets["catalog.json"].unrecognized_fields["custom"]
                self.sign_targets(self.catalogs[-1], custom)
            if role in {"targets", "snapshot"}:
                self.sign_snapshot()
            self.renew()
        return old

    def bundle(self, *upstreams: str, region: str = COUNTY) -> bytes:
        """The file that is carried to a county."""
        newest = self.content.metadata[f"{self.root.version}.root.json"].decode()
        issued = dump_instant(self.clock())
        return encode_bundle(Bundle("yuanjiao-bundle", 1, self.region, region, "中牟县", upstreams, newest, issued))

    def site(self) -> Site:
        """A server of what the province publishes, always current."""
        return Site(self.content)

    def mirror(self) -> Site:
        """A server of a copy, which stays as the release is now."""
        return Site(self.content.copy())

    def _write_root(self, signers: list[CryptoSigner]) -> None:
        metadata = Metadata(self.root)
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        self.content.metadata[f"{self.root.version}.root.json"] = metadata.to_bytes(_COMPACT)

    def _write(self, name: str, metadata: Metadata[Any], role: str, by: CryptoSigner | None = None) -> None:
        metadata.sign(by or self.signers[role])
        self.content.metadata[name] = metadata.to_bytes(_COMPACT)

    def _after(self, seconds: int) -> datetime:
        return datetime.fromtimestamp(self.clock() + seconds, UTC)


def _builtins(custom: CatalogTarget) -> dict[str, Any]:
    import msgspec

    return dict(msgspec.to_builtins(custom))
