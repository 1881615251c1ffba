"""Signing: from numbers and a target to role files on the disk, `timestamp.json` last.

Blocking; callers run it in a thread, under the publish lock. Keys are read from their files at each signing, so a
server that runs for months signs with what a rotation put there an hour ago.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from securesystemslib.signer import Signer
from tuf.api.metadata import Delegations, Metadata, Root, TargetFile, Targets

from manifests.errors import ConfigurationError, StorageDamagedError
from manifests.instants import Instant, dump_instant
from origin.publish.delegation import TARGETS, above
from origin.publish.failpoints import reach
from origin.publish.keys import KeyRing
from origin.publish.metadata import (
    Chain,
    MetadataDir,
    expiry,
    is_signed,
    make_snapshot,
    make_targets,
    make_timestamp,
    sign,
)

DAY_S: Final = 86_400
ONLINE: Final = (TARGETS, "snapshot", "timestamp")
# A machine's clock may be set back by so much between two signatures without anybody being told.
_SLACK_S: Final = 300
# An origin may well stand still over a term's holidays and a move; not much longer than that.
_LEAST_SILENCE_S: Final = 180 * DAY_S


@dataclass(frozen=True, slots=True)
class Terms:
    """How long signatures are valid, in seconds."""

    timestamp_s: int = DAY_S
    snapshot_s: int = 30 * DAY_S
    targets_s: int = 365 * DAY_S
    root_s: int = 3650 * DAY_S

    @property
    def silence_s(self) -> int:
        """The longest time between two signatures that is believed.

        A clock that says more is taken to be wrong: one timestamp from the future would raise every edge's floor of
        time, and all honest ones would count as expired until then.
        """
        return max(self.targets_s, _LEAST_SILENCE_S)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Versions to sign; None leaves the role as it is. A new targets needs a new snapshot.

    Attributes:
        targets: of the province's targets, or of the city's role that `role` says.
        skipped: versions of cities' roles of which there will be no file, see `Job.skips`.
    """

    timestamp: int
    snapshot: int | None = None
    targets: int | None = None
    role: str = TARGETS
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entrusted:
    """Which cities may publish from now on; a release of the province that signs it changes that."""

    delegations: Delegations | None


class Signatory:
    """Signs for the online roles and knows what was signed before."""

    def __init__(self, metadata: MetadataDir, keys: KeyRing, terms: Terms) -> None:
        self.metadata = metadata
        self.keys = keys
        self.terms = terms

    def root(self) -> Metadata[Root]:
        """The newest root.

        Raises:
            ConfigurationError: environment; there is none, the directory was never initialised.
        """
        root = self.metadata.newest_root()
        if root is None:
            raise _uninitialised()
        return root

    def chain(self) -> Chain:
        """The present release.

        Raises:
            ConfigurationError: environment; nothing was ever released.
        """
        chain = self.metadata.chain()
        if chain is None:
            raise _uninitialised()
        return chain

    def floors(self) -> dict[str, int]:
        """The highest version of each role that the disk shows, whether committed or not."""
        chain = self.metadata.chain()
        return {
            # Cities count with the province: a version is one release's, whoever's it is.
            "targets": max((n for n, role in self.metadata.versions() if role not in {"root", "snapshot"}), default=0),
            "snapshot": self.metadata.highest("snapshot"),
            "timestamp": chain.timestamp.signed.version if chain else 0,
        }

    def signing_time(self, now: Instant) -> Instant:
        """The instant to sign with: never before the last signature, which edges take for a floor of time.

        Raises:
            ConfigurationError: environment; the clock is behind the last signature, or too far ahead of it.
        """
        chain = self.metadata.chain()
        if chain is None:
            return now
        last = chain.issued
        if now < last - _SLACK_S:
            raise _wrong_clock(now, last, "behind", "早于")
        if now > last + self.terms.silence_s:
            raise _wrong_clock(now, last, "far ahead of", "远晚于")
        return max(now, last)

    def check_keys(self, roles: Sequence[str]) -> None:
        """Find out whether all these roles could be signed for, before anything is changed.

        Raises:
            ConfigurationError: environment; names the key that is absent.
        """
        root, chain = self.root().signed, self.metadata.chain()
        for role in roles:
            self.keys.signers(above(role, root, chain.targets.signed if chain else None), role)

    def issue(
        self,
        numbers: Numbers,
        now: Instant,
        target: TargetFile | None = None,
        extra: Mapping[str, Sequence[Signer]] | None = None,
        entrusted: Entrusted | None = None,
    ) -> None:
        """Sign and write what `numbers` names; the rename of `timestamp.json` is the commit.

        Args:
            numbers: versions never used before.
            now: from `signing_time`.
            target: the catalog's entry when targets are signed; None keeps the present one.
            extra: further signers per role, whom the next root will name.
            entrusted: which cities may publish; None keeps that.

        Raises:
            ConfigurationError: environment; a key is absent.
            StorageError: environment.
        """
        root, chain = self.root().signed, self.metadata.chain()
        top = chain.targets.signed if chain is not None else None
        parents = {"snapshot": root, "timestamp": root, numbers.role: above(numbers.role, root, top)}
        wanted = {numbers.role: numbers.targets, "snapshot": numbers.snapshot, "timestamp": numbers.timestamp}
        signers: dict[str, list[Signer]] = {}
        for role in (role for role, number in wanted.items() if number is not None):
            signers[role] = [*self.keys.signers(parents[role], role), *(extra or {}).get(role, ())]

        def publish(role: str, metadata: Metadata[Any]) -> None:
            sign(metadata, signers[role])
            if not is_signed(parents[role], role, metadata):
                raise ConfigurationError(f"the signatures for {role} do not satisfy the root")
            self.metadata.write(metadata, role if role not in ONLINE else None)

        if numbers.targets is not None:
            entry = target if target is not None else self._entry(numbers.role)
            delegations = entrusted.delegations if entrusted is not None else _delegations(numbers.role, top)
            expires = expiry(now, self.terms.targets_s)
            publish(numbers.role, make_targets(numbers.targets, expires, entry, delegations))
            reach("publish:targets-written")
        snapshot = numbers.snapshot
        if snapshot is not None:
            publish("snapshot", make_snapshot(snapshot, expiry(now, self.terms.snapshot_s), _named(chain, numbers)))
            reach("publish:snapshot-written")
        else:
            snapshot = self.chain().snapshot.signed.version
        expires = expiry(now, self.terms.timestamp_s)
        publish("timestamp", make_timestamp(numbers.timestamp, expires, snapshot, dump_instant(now)))
        reach("publish:timestamp-renamed")

    def _entry(self, role: str) -> TargetFile:
        """The present entry of a role."""
        chain = self.chain()
        file = chain.file(role)
        if file is None:
            raise StorageDamagedError(f"{chain.version(role)}.{role}.json is absent or damaged")
        return next(iter(file.signed.targets.values()))

    def due(self, now: Instant) -> tuple[str, ...]:
        """Roles whose signature should be renewed now.

        The timestamp after a 48th of its validity: a server that asks hourly renews hourly, whatever its timer's drift.
        Snapshot and targets when less than half of their validity is left.
        """
        chain = self.chain()
        due = []
        if now - chain.issued >= self.terms.timestamp_s // 48:
            due.append("timestamp")
        if chain.snapshot.signed.expires < expiry(now, self.terms.snapshot_s // 2):
            due.append("snapshot")
        half = expiry(now, self.terms.targets_s // 2)
        files = [("targets", chain.targets), *((role, chain.cities.get(role)) for role in chain.delegated)]
        due += [role for role, file in files if file is not None and file.signed.expires < half]
        return tuple(due)


def _delegations(role: str, top: Targets | None) -> Delegations | None:
    return top.delegations if role == TARGETS and top is not None else None


def _named(chain: Chain | None, numbers: Numbers) -> dict[str, int]:
    """Roles of the next snapshot: all that the present one names, at their versions or the one that is new."""
    before = chain.snapshot.signed.meta if chain is not None else {}
    named = {name.removesuffix(".json"): meta.version for name, meta in before.items()}
    return {**named, **numbers.skipped} | ({numbers.role: numbers.targets} if numbers.targets is not None else {})


def _uninitialised() -> ConfigurationError:
    return ConfigurationError(
        "nothing was ever released here",
        zh="此目录尚未初始化，没有任何发布",
        hint="run `yuanjiao origin init DIR` first; it may be repeated",
        hint_zh="请先运行 `yuanjiao origin init DIR`（可重复执行）",
    )


def _wrong_clock(now: Instant, last: Instant, how: str, how_zh: str) -> ConfigurationError:
    return ConfigurationError(
        f"this machine's clock says {dump_instant(now)}, {how} the last signature ({dump_instant(last)}); "
        "nothing was signed",
        zh=f"本机时钟 {dump_instant(now)} {how_zh}上次签名时间 {dump_instant(last)}，未签名",
        hint="set the clock (NTP). If it is right after a very long pause, sign once with a larger trust.targets_days",
        hint_zh="请校准时钟（NTP）。若时钟无误且确实长期停用，请临时调大 trust.targets_days 后签名一次",
    )
