"""A city that publishes under a province in memory; tests bend what it signs, and whether it still may."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from securesystemslib.signer import CryptoSigner
from support.edges import edge_at
from support.province import DAY, ManualClock, Province, Site
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile, Targets
from tuf.api.serialization.json import JSONSerializer

from edge import app
from edge.app import Edge
from manifests.catalog import encode_catalog
from manifests.instants import dump_instant
from manifests.model import Catalog, CatalogTarget, Column, Courseware, Recall
from manifests.pieces import BlobRef

ZHENGZHOU, KAIFENG = "410100", "410200"


class City:
    """Signs a city's catalogs. What it has signed counts when the province has released after it."""

    def __init__(self, province: Province, code: str = ZHENGZHOU) -> None:
        self.province = province
        self.code = code
        self.role = f"cities-{code}"
        self.signer = CryptoSigner.generate_ed25519()
        self.lessons: dict[str, Courseware] = {}
        self.recalls: dict[str, Recall] = {}
        self.columns = (Column("zl-one", "别的名字", 9), Column(f"zl-{code}", "本市专栏", 3))
        self.version = 0
        self.entrust()

    def entrust(self) -> None:
        """Have the province name this city and its present key, from its next targets on."""
        before = self.province.delegations
        roles = dict(before.roles or {}) if before else {}
        keys = dict(before.keys) if before else {}
        key = self.signer.public_key
        roles[self.role] = DelegatedRole(self.role, [key.keyid], 1, terminating=True, paths=[f"cities/{self.code}/*"])
        self.province.delegations = Delegations({**keys, key.keyid: key}, roles)

    def withdraw(self) -> None:
        """Have the province name it no more, from its next targets on."""
        before = self.province.delegations
        roles = {name: role for name, role in (before.roles or {}).items() if name != self.role} if before else {}
        self.province.delegations = Delegations(dict(before.keys), roles) if before and roles else None

    def lesson(self, name: str, files: dict[str, bytes], **fields: Any) -> Courseware:
        """Put a lesson of its own, or a new version of one, into its next catalog."""
        province = self.province
        id_ = name if name[:6].isdigit() else f"{self.code}-{name}"
        held, province.lessons = province.lessons, self.lessons
        recalls, province.recalls = province.recalls, self.recalls
        try:
            return province.lesson(id_, files, **{"audience": (self.code,), **fields})
        finally:
            province.lessons, province.recalls = held, recalls

    def recall(self, id_: str) -> None:
        """Recall a lesson in its next catalog."""
        item = self.lessons.pop(id_)
        self.recalls[id_] = Recall(id_, item.version, "内容有误", dump_instant(self.province.clock()))

    def sign(
        self,
        *,
        version: int | None = None,
        days: int = 365,
        by: CryptoSigner | None = None,
        edit: Callable[[bytes], bytes] | None = None,
        role_version: int | None = None,
    ) -> BlobRef:
        """Sign its lessons as they are now; returns the catalog."""
        self.version = self.version + 1 if version is None else version
        issued = dump_instant(self.province.clock())
        lessons, recalls = tuple(self.lessons.values()), tuple(self.recalls.values())
        catalog = Catalog("yuanjiao-catalog", 1, self.code, self.version, issued, 0, self.columns, lessons, recalls)
        data = encode_catalog(catalog)
        ref = self.province.blob(edit(data) if edit else data)
        custom = msgspec.to_builtins(CatalogTarget(self.version, ref.table, ref.piece_size))
        path = f"cities/{self.code}/catalog.json"
        number = self.province.cities.get(self.role, 0) + 1 if role_version is None else role_version
        expires = datetime.fromtimestamp(self.province.clock() + days * DAY, UTC)
        target = TargetFile(ref.size, {"sha256": ref.digest}, path, {"custom": custom})
        metadata = Metadata(Targets(version=number, expires=expires, targets={path: target}))
        metadata.sign(by or self.signer)
        self.province.cities[self.role] = number
        self.province.content.metadata[f"{number}.{self.role}.json"] = metadata.to_bytes(JSONSerializer(compact=True))
        return ref

    def release(self, **bent: Any) -> BlobRef:
        """Sign, and have the province release it; the province's own catalog stays."""
        ref = self.sign(**bent)
        self.province.sign_snapshot()
        self.province.renew()
        return ref


class World:
    """A province with two cities that publish, its site, and the edges of a test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = ManualClock()
        self.province = Province(self.clock)
        self.province.lesson("kj-1", {"a.pdf": b"province"})
        self.zhengzhou, self.kaifeng = City(self.province), City(self.province, KAIFENG)
        self.zhengzhou.lesson("kj", {"a.pdf": b"zhengzhou"}, columns=("zl-410100",))
        self.kaifeng.lesson("kj", {"a.pdf": b"kaifeng"})
        self.zhengzhou.sign()
        self.kaifeng.sign()
        self.province.release()
        self.site: Site = self.province.site()

    def edge(self, region: str = "410122", *urls: str) -> AbstractAsyncContextManager[Edge]:
        """The edge of a county, followed from the province's own site unless others are named."""
        home = self.home / region
        if not (home / "edge.toml").exists():
            app.init_edge(home, self.province.bundle(self.site.url, region=region), self.clock)
        return edge_at(home, self.province, self.clock, *(urls or (self.site.url,)))

    def publish(self, text: bytes) -> None:
        """A new version of the province's lesson, to see that it arrives."""
        self.province.lesson("kj-1", {"a.pdf": text})
        self.province.release()


def ids(edge: Edge) -> set[str]:
    """What is installed."""
    return set(edge.library.versions())
