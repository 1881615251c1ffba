"""Replacing a role's keys so that every edge follows by itself, and so that a crash at any step harms nobody.

The order is the point. First the role's file is signed by the old and the new key: edges on the old root accept it by
the old signature. Then the new root, which names only the new key, becomes visible: edges accept the same file by the
new one. There is no instant at which root and role do not fit together. When the old key is lost, the first step
is impossible; then the new root comes first and the role is signed directly after it.

Rotating root replaces the whole set of root keys: that is how a lost or copied one is got rid of. The new root carries
the old threshold of old signatures and the same threshold of new ones.

For a city the province's targets stand where the root does for the others; the order is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets

from manifests.cities import city_of_role
from manifests.errors import ConfigurationError, InputError
from manifests.instants import Instant
from manifests.names import Region
from origin.publish.cities import sign_targets
from origin.publish.delegation import above, keyids_of, publisher_of, with_city
from origin.publish.failpoints import reach
from origin.publish.keys import ROLES, stems
from origin.publish.metadata import expiry, follow_root, is_signed, sign
from origin.publish.press import Job, Press
from origin.publish.signing import ONLINE, Entrusted


@dataclass(frozen=True, slots=True)
class Rotated:
    """A finished rotation: key ids that sign from now on, and those that do not any more."""

    role: str
    root_version: int
    keys: tuple[str, ...]
    retired: tuple[str, ...]


async def run_rotation(press: Press, role: str) -> Rotated:
    """Replace the keys of `role`. The caller holds the publish lock and has repaired.

    Raises:
        InputError: bad data; no such role.
        ConfigurationError: environment; too few root keys are here. Nothing was changed.
        StorageError: environment; the next repair settles what was begun.
    """
    if city_of_role(role):
        return await _rotate_city(press, role)
    if role not in ROLES:
        raise InputError(
            f"no role {role[:40]!r}; there are {', '.join(ROLES)}",
            zh=f"没有角色 {role[:40]!r}，应为 {'、'.join(ROLES)}",
        )
    now = await press.signing_time()
    old = (await asyncio.to_thread(press.signatory.root)).signed
    signers, new = await asyncio.to_thread(_make_keys, press, old, role)
    reach("rotate:key-made")
    if role != "root" and await asyncio.to_thread(_can_sign, press, old, role):
        await _sign_by_both(press, role, new, now)
        reach("rotate:signed")
    root = _next_root(press, old, role, signers, new, now)
    await asyncio.to_thread(press.signatory.metadata.write, root)
    reach("rotate:root-written")
    await press.repair()
    if role == "timestamp":
        # Drops the old key's signature: every poll of every edge carries this file.
        await press.reissue(await press.signing_time(), snapshot=False, extra={})
    done = Rotated(
        role=role,
        root_version=root.signed.version,
        keys=tuple(signer.public_key.keyid for signer in new),
        retired=tuple(old.roles[role].keyids),
    )
    await press.audit("rotate", f"{role}: {_short(done.retired)} replaced by {_short(done.keys)}")
    return done


async def _rotate_city(press: Press, role: str) -> Rotated:
    chain = await asyncio.to_thread(press.signatory.chain)
    above(role, chain.root.signed, chain.targets.signed)
    city = Region(publisher_of(role))
    await asyncio.to_thread(press.signatory.check_keys, ONLINE)
    new = await asyncio.to_thread(press.shop.keys.create_pending, role)
    reach("rotate:key-made")
    if role in chain.cities and await asyncio.to_thread(_can_sign, press, chain.targets.signed, role):
        note = f"signed by the old and the new key of {city}"
        job = Job("rotate", note, keeps_catalog=True, extra={role: [new]}, publisher=city)
        await press.run(job, await press.signing_time())
        reach("rotate:signed")
    targets = (await asyncio.to_thread(press.signatory.chain)).targets.signed
    retired = keyids_of(targets, role)
    entrusted = Entrusted(with_city(targets, city, [new.public_key]))
    await sign_targets(press, f"the key of city {city} was replaced", entrusted, "rotate")
    await press.repair()
    done = Rotated(role, chain.root.signed.version, (new.public_key.keyid,), retired)
    await press.audit("rotate", f"{role}: {_short(retired)} replaced by {_short(done.keys)}")
    return done


def _make_keys(press: Press, old: Root, role: str) -> tuple[list[CryptoSigner], list[CryptoSigner]]:
    # The root's keys are looked for first, so that a missing medium is told before any file is made.
    signers = press.shop.keys.signers(old, "root")
    return signers, [press.shop.keys.create_pending(stem) for stem in stems(role, len(old.roles[role].keyids))]


def _can_sign(press: Press, root: Root | Targets, role: str) -> bool:
    try:
        press.shop.keys.signers(root, role)
    except ConfigurationError:
        return False
    return True


async def _sign_by_both(press: Press, role: str, new: Sequence[CryptoSigner], now: Instant) -> None:
    extra = {role: new}
    if role == "targets":
        await press.run(
            Job("rotate", "signed by the old and the new targets key", keeps_catalog=True, extra=extra), now
        )
    else:
        await press.reissue(now, snapshot=role == "snapshot", extra=extra)


def _next_root(
    press: Press, old: Root, role: str, signers: Sequence[CryptoSigner], new: Sequence[CryptoSigner], now: Instant
) -> Metadata[Root]:
    expires = expiry(now, press.shop.terms.root_s)
    root = follow_root(old, role, [signer.public_key for signer in new], expires)
    sign(root, [*signers, *new] if role == "root" else signers)
    if not (is_signed(old, "root", root) and is_signed(root.signed, "root", root)):
        raise ConfigurationError("the signatures of the new root do not satisfy the old root and itself")
    return root


def _short(keyids: Sequence[str]) -> str:
    return ", ".join(keyid[:16] for keyid in keyids)
