"""One refresh against one upstream, run in a thread: tuf's rules, our words for its errors.

This file does not know several upstreams, the event loop or where the state is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError
from tuf.ngclient.config import UpdaterConfig

from edge.sync.bridge import Bridge
from edge.sync.citystate import settle_cities
from edge.sync.freshness import RoleState, TrustState
from edge.sync.tufseam import Roles, Signed, TargetFile, Updater, pin_time, verified_roles
from edge.sync.verify_cities import Look, verify_cities
from manifests.catalog import MAX_CATALOG_BYTES, parse_target
from manifests.digests import parse_digest
from manifests.errors import (
    ExpiredError,
    FormatError,
    RollbackError,
    SignatureError,
    TransferError,
    UntrustedError,
)
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.names import Region

CATALOG_TARGET = "catalog.json"
ISSUED_FIELD = "x-yuanjiao-issued"
_ROLES_ZH = {"root": "根", "timestamp": "时间戳", "snapshot": "快照", "targets": "目标清单"}


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads: from which root it starts, and in which region it stands, which says whose catalogs it reads."""

    bootstrap: bytes
    region: Region


def verify_release(
    directory: Path,
    reader: Reader,
    bridge: Bridge,
    at: Instant,
    clock_at: Instant,
    grace_s: int = 0,
    before: TrustState | None = None,
) -> TrustState:
    """Fetch and verify what is new, and return the release as it now stands.

    Args:
        directory: tuf's own files; damage there is fetched again.
        reader: this edge.
        bridge: the upstream to ask.
        at: trusted time, by which expiry is judged.
        clock_at: this machine's own reading, for the record and for messages.
        grace_s: the timestamp (and the snapshot, which it vouches for) may have expired for less than this; root and
            targets may not. Signatures and versions are judged as ever.
        before: what stood; what cities could not be followed with then is not asked for in vain again.

    Raises:
        UntrustedError: bad data of the province (the family's classes say what kind); a city's stands in the state.
        TransferError: environment.
        OSError: environment; the caller maps it.
    """
    with _mapped(bridge, at, clock_at):
        updater = Updater(
            str(directory),
            "metadata/",
            fetcher=bridge,
            config=UpdaterConfig(max_root_rotations=64),
            bootstrap=reader.bootstrap,
        )
        pin_time(updater, Instant(at - grace_s))
        updater.refresh()
        target = updater.get_targetinfo(CATALOG_TARGET)
        roles = verified_roles(updater)
        _check_lasting(roles, at)
    if target is None:
        raise FormatError(f"the signed targets do not name {CATALOG_TARGET}", zh=f"签名清单中没有 {CATALOG_TARGET}")
    state = _state_of(roles, target, clock_at)
    known = before.city_faults if before is not None else ()
    look = Look(updater, roles, at, lambda: _mapped(bridge, at, clock_at), known)
    stood = before.cities if before is not None else ()
    cities, faults = settle_cities(stood, *verify_cities(look, reader.region), roles.snapshot.version)
    return msgspec.structs.replace(state, cities=cities, city_faults=faults)


def check_bootstrap(directory: Path, bootstrap: bytes) -> None:
    """Check that a bundle's root can start an edge.

    Raises:
        UntrustedError: bad data; not root metadata, or not signed by its own keys.
    """
    with _mapped(None, Instant(0), Instant(0)):
        Updater(str(directory), "metadata/", fetcher=None, bootstrap=bootstrap)


def is_same_chain(held: Sequence[bytes], fresh: bytes) -> bool:
    """Tell whether a root is one of those held, is vouched for by one of them, or vouches for one of them."""
    new = Metadata[Root].from_bytes(fresh)
    for data in held:
        try:
            old = Metadata[Root].from_bytes(data)
        except DeserializationError:
            continue  # damage on this disk speaks for nobody
        if data == fresh or _vouches(old, new) or _vouches(new, old):
            return True
    return False


def _vouches(older: Metadata[Root], newer: Metadata[Root]) -> bool:
    if older.signed.version >= newer.signed.version:
        return False
    try:
        older.signed.verify_delegate("root", newer.signed_bytes, newer.signatures)
    except (tuf_errors.UnsignedMetadataError, ValueError):
        return False
    return True


def check_progress(old: TrustState | None, new: TrustState) -> None:
    """Refuse a release that is older than the one verified before.

    tuf's client checks the same from its own files, but those may be lost. A role whose keys the root has replaced is
    left out: that is how a province recovers when a stolen key ran the version numbers up (TUF 5.3.11).

    Raises:
        RollbackError: bad data.
    """
    if old is None:
        return
    for name in _ROLES_ZH:
        before: RoleState = getattr(old, name)
        after: RoleState = getattr(new, name)
        if before.keys == after.keys or name == "root":
            check_not_older(name, before.version, after.version)
    check_not_older("catalog", old.catalog_version, new.catalog_version)


def check_not_older(what: str, before: int, after: int) -> None:
    """Refuse a version below the one known.

    Raises:
        RollbackError: bad data.
    """
    if after < before:
        raise RollbackError(
            f"{what} version {after} offered after {before}",
            zh=f"收到旧版本：{_ROLES_ZH.get(what, '目录')}第 {after} 版，此前已验证第 {before} 版",
        )


def _state_of(roles: Roles, target: TargetFile, clock_at: Instant) -> TrustState:
    custom = parse_target(target.custom, target.length)
    if not 0 < target.length <= MAX_CATALOG_BYTES:
        raise FormatError(
            f"catalog of {target.length} bytes passes the limit of {MAX_CATALOG_BYTES}",
            zh=f"目录大小 {target.length} 字节，超出上限 {MAX_CATALOG_BYTES}",
        )
    issued = roles.timestamp.unrecognized_fields.get(ISSUED_FIELD)
    signed_at = parse_instant(issued) if isinstance(issued, str) else Instant(0)
    return TrustState(
        catalog_version=custom.version,
        digest=parse_digest(target.hashes.get("sha256", "")),
        size=target.length,
        table=custom.table,
        piece_size=custom.piece_size,
        patches=custom.patches,
        root=_role_state(roles, "root", roles.root),
        timestamp=_role_state(roles, "timestamp", roles.timestamp),
        snapshot=_role_state(roles, "snapshot", roles.snapshot),
        targets=_role_state(roles, "targets", roles.targets),
        # Only signed time raises the floor: this machine's clock must never poison it.
        floor=signed_at,
        checked_at=clock_at,
    )


def _check_lasting(roles: Roles, at: Instant) -> None:
    """Root and targets have no grace: with it, tuf judged them at an earlier time than now."""
    for name, role in (("root", roles.root), ("targets", roles.targets)):
        if role.expires.timestamp() <= at:
            raise tuf_errors.ExpiredMetadataError(f"{name}.json is expired")


def _role_state(roles: Roles, name: str, signed: Signed) -> RoleState:
    keys = tuple(sorted(roles.root.roles[name].keyids))
    return RoleState(signed.version, Instant(int(signed.expires.timestamp())), keys)


@contextmanager
def _mapped(bridge: Bridge | None, at: Instant, clock_at: Instant) -> Iterator[None]:
    try:
        yield
    except tuf_errors.DownloadError as error:
        raise _transfer_error(bridge, error) from error
    except tuf_errors.RepositoryError as error:
        raise _untrusted(error, at, clock_at) from error


def _transfer_error(bridge: Bridge | None, error: tuf_errors.DownloadError) -> TransferError:
    if bridge is not None and bridge.error is not None:
        return bridge.error
    return TransferError(f"role file: {error}", zh="获取签名清单失败")


def _untrusted(error: tuf_errors.RepositoryError, at: Instant, clock_at: Instant) -> UntrustedError:
    if isinstance(error, tuf_errors.ExpiredMetadataError):
        return ExpiredError(
            f"{error} at trusted time {dump_instant(at)} (this machine's clock says {dump_instant(clock_at)})",
            zh=f"签名清单已过期（可信时间 {dump_instant(at)}，本机时钟 {dump_instant(clock_at)}）",
            hint="check this machine's clock first: if it runs ahead, set it and sync again; otherwise the upstream "
            "has not heard from the province. What was proved keeps playing",
            hint_zh="请先检查本机时钟：若走快请校准后重新同步；否则是上游长时间没有收到省级源站的更新。已验证的课件照常播放",
        )
    if isinstance(error, tuf_errors.UnsignedMetadataError):
        return SignatureError(
            f"{error}",
            zh="签名缺失、有误，或由不再可信的密钥签署",
            hint="at a first sync the bundle may be of another province; otherwise another upstream is tried and the "
            "province should be told",
            hint_zh="若为首次同步，开通文件可能属于其他省；否则将换用其他上游，并请上报省级源站",
        )
    if isinstance(error, tuf_errors.BadVersionNumberError):
        return RollbackError(
            f"an older or mixed release was offered: {error}", zh=f"上游提供了较旧或混杂的版本：{error}"
        )
    return FormatError(f"role file is not readable: {error}", zh=f"签名清单无法读取：{error}")
