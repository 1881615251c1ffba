"""The signed role files: what they say, how they are written, which of them are on the disk.

Four documents, and one more for each city that publishes (`origin.publish.delegation`): compact JSON, consistent
snapshots (`N.targets.json`). `timestamp.json` is the only name whose content changes, so renaming it is what makes a
release: everything before it can be seen by nobody who follows the rules.
Snapshot and timestamp carry versions and no digests: a poll with nothing new stays small, and the roles are signed.

The timestamp says when it was signed (`x-yuanjiao-issued`), the edges' floor of trusted time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from manifests.catalog import parse_target
from manifests.cities import city_of_role
from manifests.digests import Digest
from manifests.errors import StorageDamagedError
from manifests.instants import Instant, parse_instant
from manifests.model import CatalogTarget
from manifests.pieces import BlobRef
from origin.publish.files import TEMPORARY, write_durably
from origin.storage.faults import storage_faults

TARGET: Final = "catalog.json"
ISSUED: Final = "x-yuanjiao-issued"

_VERSIONED = re.compile(r"(\d{1,9})\.(root|targets|snapshot|cities-\d{6})\.json")
_COMPACT: Final = JSONSerializer(compact=True)

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True, slots=True)
class Chain:
    """What an edge that asks now is given, from root to targets.

    Attributes:
        cities: by role, the files of cities that the snapshot names; also of one that was taken its right to publish.
        damaged: roles of cities whose file cannot be read: theirs alone is affected.
    """

    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    targets: Metadata[Targets]
    cities: Mapping[str, Metadata[Targets]] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    @property
    def issued(self) -> Instant:
        """When the timestamp was signed."""
        return parse_instant(str(self.timestamp.signed.unrecognized_fields[ISSUED]))

    @property
    def target(self) -> TargetFile:
        """The province's catalog's entry."""
        return self.targets.signed.targets[TARGET]

    @property
    def delegated(self) -> tuple[str, ...]:
        """Roles of the cities that may publish."""
        return delegated_roles(self.targets.signed)

    def file(self, role: str) -> Metadata[Targets] | None:
        """The file of `targets` or of a city's role; None for a city that never released."""
        return self.targets if role == Targets.type else self.cities.get(role)

    def version(self, role: str) -> int:
        """The version of `targets` or of a city's role that the snapshot names; 0 for none."""
        named = self.snapshot.signed.meta.get(f"{role}.json")
        return named.version if named is not None else 0

    def unproved_roles(self) -> tuple[str, ...]:
        """Roles whose file those above them do not vouch for: a rotation was cut off."""
        files: tuple[tuple[str, Metadata[Any]], ...] = (
            ("targets", self.targets),
            ("snapshot", self.snapshot),
            ("timestamp", self.timestamp),
        )
        found = [role for role, metadata in files if not is_signed(self.root.signed, role, metadata)]
        mine = [(role, self.cities[role]) for role in self.delegated if role in self.cities]
        found += [role for role, metadata in mine if not is_signed(self.targets.signed, role, metadata)]
        return tuple(found)


class Shared(Protocol):
    """Where role files go before they are written here, when other machines serve them too. Blocking."""

    def put(self, name: str, data: bytes) -> None:
        """Take a file; raises what keeps it from being shared."""
        ...

    def drop(self, names: Collection[str]) -> None:
        """Give files up."""
        ...


class MetadataDir:
    """The directory that is served as /metadata/."""

    def __init__(self, directory: Path, shared: Shared | None = None) -> None:
        self._directory = directory
        self._shared = shared

    def newest_root(self) -> Metadata[Root] | None:
        """The root with the highest version; None before init.

        Raises:
            StorageDamagedError: environment; a file is not what was written.
            StorageError: environment.
        """
        text = self.root_text()
        return _parse(Root, "root.json", text.encode()) if text is not None else None

    def root_text(self) -> str | None:
        """The newest root's exact text, which a bundle carries."""
        version = self.highest("root")
        return self._read(f"{version}.root.json").decode() if version else None

    def chain(self) -> Chain | None:
        """The present release, None before the first one.

        Raises:
            StorageDamagedError: environment; a file is absent or not what was written.
            StorageError: environment.
        """
        root = self.newest_root()
        if root is None or not (self._directory / "timestamp.json").exists():
            return None
        timestamp = self._load(Timestamp, "timestamp.json")
        snapshot = self._load(Snapshot, f"{timestamp.signed.snapshot_meta.version}.snapshot.json")
        targets = self._load(Targets, f"{snapshot.signed.meta['targets.json'].version}.targets.json")
        cities, damaged = self._cities(snapshot.signed)
        return Chain(root, timestamp, snapshot, targets, cities, damaged)

    def _cities(self, snapshot: Snapshot) -> tuple[dict[str, Metadata[Targets]], tuple[str, ...]]:
        """What cannot be read of a city must not keep the province from publishing."""
        found: dict[str, Metadata[Targets]] = {}
        damaged = []
        for name, meta in snapshot.meta.items():
            role = name.removesuffix(".json")
            if city_of_role(role) is not None:
                try:
                    found[role] = self._load(Targets, f"{meta.version}.{name}")
                except StorageDamagedError:
                    damaged.append(role)
        return found, tuple(damaged)

    def highest(self, role: str) -> int:
        """The highest version of a role on the disk, committed or not; 0 for none."""
        return max((version for version, one in self.versions() if one == role), default=0)

    def write(self, metadata: Metadata[S], role: str | None = None) -> None:
        """Write a role file under its name, durably.

        Args:
            metadata: signed.
            role: of a city; None for the role that its type says.

        Raises:
            StorageDamagedError: caller's mistake; a versioned name would get another content.
            StorageFullError: environment.
            StorageError: environment.
        """
        signed = metadata.signed
        name = "timestamp.json" if signed.type == Timestamp.type else f"{signed.version}.{role or signed.type}.json"
        data = metadata.to_bytes(_COMPACT)
        path = self._directory / name
        if signed.type != Timestamp.type and path.exists():
            if path.read_bytes() == data:
                return
            raise StorageDamagedError(f"{name} is there with another content; it was not overwritten")
        if self._shared is not None:
            self._shared.put(name, data)
        write_durably(path, data)

    def remove(self, names: Collection[str]) -> None:
        """Remove files that `origin.publish.collection` found to be old.

        Raises:
            StorageError: environment.
        """
        if self._shared is not None and names:
            self._shared.drop(names)
        with storage_faults("clearing old metadata"):
            for name in names:
                (self._directory / name).unlink(missing_ok=True)

    def versions(self) -> list[tuple[int, str]]:
        """Version and role of every versioned file.

        Raises:
            StorageError: environment.
        """
        return [(int(match[1]), match[2]) for name in self._names() if (match := _VERSIONED.fullmatch(name))]

    def temporary_files(self) -> list[str]:
        """Files that a crash left half written."""
        return [name for name in self._names() if name.endswith(f".json{TEMPORARY}")]

    def catalog_blobs(self, name: str) -> frozenset[Digest]:
        """What a targets file names: the catalog, the patches that lead to it, and the piece tables of all these.

        Raises:
            StorageDamagedError: environment; the file is absent or not what was written.
        """
        refs: list[BlobRef] = []
        for target in self._load(Targets, name).signed.targets.values():
            custom = parse_target(target.custom)
            refs += [target_ref(target, custom), *(patch.ref for patch in custom.patches)]
        return frozenset(digest for ref in refs for digest in (ref.digest, ref.table) if digest)

    def _names(self) -> list[str]:
        with storage_faults("listing metadata"):
            return [path.name for path in self._directory.iterdir()]

    def _load(self, kind: type[S], name: str) -> Metadata[S]:
        return _parse(kind, name, self._read(name))

    def _read(self, name: str) -> bytes:
        with storage_faults(f"reading {name}"):
            try:
                return (self._directory / name).read_bytes()
            except FileNotFoundError as error:
                raise _damaged(name, "it is absent") from error


def _parse(kind: type[S], name: str, data: bytes) -> Metadata[S]:
    try:
        metadata: Metadata[S] = Metadata.from_bytes(data)
    except DeserializationError as error:
        raise _damaged(name, str(error)) from error
    if not isinstance(metadata.signed, kind):
        raise _damaged(name, f"it is of type {metadata.signed.type}")
    return metadata


def _damaged(name: str, reason: str) -> StorageDamagedError:
    return StorageDamagedError(
        f"metadata/{name} is damaged: {reason}",
        zh=f"签名元数据 metadata/{name} 已损坏",
        hint="restore the metadata directory and origin.sqlite from the same backup",
        hint_zh="请从同一份备份恢复 metadata 目录和 origin.sqlite",
    )


def expiry(now: Instant, term_s: int) -> datetime:
    """The instant at which a signature made now expires."""
    return datetime.fromtimestamp(now + term_s, UTC)


def catalog_target(catalog: BlobRef, custom: dict[str, Any], path: str = TARGET) -> TargetFile:
    """The entry of a catalog in targets, or in the role of its city."""
    return TargetFile(catalog.size, {"sha256": catalog.digest}, path, {"custom": custom})


def target_ref(target: TargetFile, custom: CatalogTarget) -> BlobRef:
    """The catalog as a blob, read back from its entry."""
    table = Digest(custom.table) if custom.table else None
    return BlobRef(Digest(target.hashes["sha256"]), target.length, table, custom.piece_size)


def make_targets(
    version: int, expires: datetime, target: TargetFile, delegations: Delegations | None = None
) -> Metadata[Targets]:
    """Unsigned targets, of the province or of a city."""
    return Metadata(Targets(version=version, expires=expires, targets={target.path: target}, delegations=delegations))


def make_snapshot(version: int, expires: datetime, named: Mapping[str, int]) -> Metadata[Snapshot]:
    """Unsigned snapshot of roles and their versions. Edges refuse one in which a role that was there is absent."""
    meta = {f"{role}.json": MetaFile(one) for role, one in named.items()}
    return Metadata(Snapshot(version=version, expires=expires, meta=meta))


def make_timestamp(version: int, expires: datetime, snapshot_version: int, issued: str) -> Metadata[Timestamp]:
    """Unsigned timestamp."""
    meta = MetaFile(snapshot_version)
    return Metadata(
        Timestamp(version=version, expires=expires, snapshot_meta=meta, unrecognized_fields={ISSUED: issued})
    )


def make_root(keys: Mapping[str, Sequence[Key]], threshold: int, expires: datetime) -> Metadata[Root]:
    """Unsigned first root; `threshold` is the root role's, the others need one signature."""
    root = Root(version=1, expires=expires, consistent_snapshot=True)
    for role, every in keys.items():
        for key in every:
            root.add_key(key, role)
    root.roles["root"].threshold = threshold
    return Metadata(root)


def follow_root(old: Root, role: str, keys: Sequence[Key], expires: datetime) -> Metadata[Root]:
    """Unsigned next root, in which `keys` are all that may sign for `role`; thresholds stay."""
    # `from_dict` takes its argument apart and shares inner dictionaries; serialised text shares nothing.
    copy: Metadata[Root] = Metadata.from_bytes(Metadata(old).to_bytes(_COMPACT))
    root = copy.signed
    for keyid in list(root.roles[role].keyids):
        root.revoke_key(keyid, role)
    for key in keys:
        root.add_key(key, role)
    root.version += 1
    root.expires = expires
    return Metadata(root)


def sign(metadata: Metadata[S], signers: Iterable[Signer]) -> Metadata[S]:
    """Add the signatures of all signers."""
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata


def is_signed(above: Root | Targets, role: str, metadata: Metadata[Any]) -> bool:
    """Tell whether an edge that trusts the root, or the targets over a city, would accept these signatures."""
    try:
        above.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError):
        return False
    return True


def delegated_roles(targets: Targets) -> tuple[str, ...]:
    """Roles of the cities that may publish."""
    roles = targets.delegations.roles if targets.delegations is not None else None
    return tuple(role for role in roles or {} if city_of_role(role) is not None)
