"""Releases: the one door through which the library changes and trust is kept alive.

Every act takes the publish lock, repairs what an earlier one left behind, and then is all there or not at all. Once it
holds the lock it runs to its end even when its caller is cancelled: a thread in the middle of signing cannot be called
back, and must not go on without the lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from manifests.catalog import decode_catalog
from manifests.digests import Digest, check_bytes
from manifests.errors import BusyError, ConfigurationError, InputError, NotFoundError, StorageFullError
from manifests.instants import Instant, dump_instant
from manifests.model import Catalog, Courseware, File, Recall
from manifests.names import CoursewareId, Region, parse_courseware_id, parse_reason
from manifests.pieces import BlobRef
from origin.database import library
from origin.database import renditions as made
from origin.database.engine import reading
from origin.database.offerings import trials
from origin.database.releases import NewVersion
from origin.publish.cities import CityRight, entries_of, rights_of, run_entrust, run_withdraw
from origin.publish.delegation import path_for, role_for
from origin.publish.keys import stems
from origin.publish.lock import publish_lock
from origin.publish.metadata import expiry, make_root, sign
from origin.publish.pilot_store import first_wave, known_faults
from origin.publish.planner import Draft, ReleasePlan, plan_release
from origin.publish.pledges import keep_pledge
from origin.publish.press import Job, Press, Workshop
from origin.publish.renewing import can_sign, run_anew, run_renewal
from origin.publish.restore_plan import RestorePlan
from origin.publish.restoring import Restored, RestoreWish, foresee_restore, prepare_patches, run_restore
from origin.publish.rotation import Rotated, run_rotation
from origin.publish.signing import Terms
from origin.publish.together import outlast

__all__ = ["Draft", "Released", "Releases", "RestoreWish", "Restored", "Rotated", "Terms", "Workshop"]

_log: Final = structlog.get_logger(__name__)
_RENEWAL_WAIT_S: Final = 10.0
MAX_ROOT_KEYS: Final = 9

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Released:
    """One courseware as it now stands; `changed` is False when all was as asked before."""

    id: CoursewareId
    version: int
    catalog_version: int
    files: tuple[File, ...]
    changed: bool = True


class Releases:
    """Publishing, recalling, and keeping signatures alive."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._press = Press(shop)

    async def establish(self, root_keys: int = 1, threshold: int = 1) -> None:
        """Make keys, the first root and the first, empty release. What is there already is kept: it may be repeated.

        Raises:
            InputError: bad data; a threshold that the number of keys cannot reach.
            StorageError: environment.
        """
        if not 1 <= threshold <= root_keys <= MAX_ROOT_KEYS:
            raise InputError(
                f"{threshold} of {root_keys} root keys is refused: 1 <= threshold <= keys <= {MAX_ROOT_KEYS}",
                zh=f"根密钥数量与门限不合规：1 ≤ 门限 ≤ 数量 ≤ {MAX_ROOT_KEYS}",
            )
        await self._alone(lambda: self._establish(root_keys, threshold))

    async def publish(self, draft: Draft) -> Released:
        """Offer one courseware; see `publish_many`."""
        return (await self.publish_many((draft,)))[0]

    async def publish_many(self, drafts: Sequence[Draft]) -> tuple[Released, ...]:
        """Offer many courseware in one release. Drafts that equal what is offered change nothing.

        Raises:
            InputError: bad data; a draft is refused. Nothing was changed.
            ConfigurationError: environment; a key is absent or the clock is wrong. Nothing was changed.
            BusyError: environment; another publish did not end in time.
            StorageError: environment; the old release is whole.
        """
        return await self._alone(lambda: self._publish(drafts))

    async def recall(self, courseware_id: str, reason: str) -> Released:
        """Take a courseware back: out of the catalog it stands in, and named there as recalled.

        Recalling what is recalled already changes nothing. Of a city whose key is not here, the province's catalog
        names it: its word counts for every lesson.

        Raises:
            NotFoundError: bad data; no such courseware was ever offered.
            InputError: bad data; the reason is refused.
        """
        known_id, why = parse_courseware_id(courseware_id), parse_reason(reason)
        return await self._at_all_costs(lambda: self._alone(lambda: self._recall(known_id, why)))

    async def foresee_restore(self, number: int, bring_back: Collection[str] = ()) -> RestorePlan:
        """What restoring an old release would change; see `origin.publish.restoring`."""
        return await foresee_restore(self._shop, number, bring_back)

    async def restore(self, wish: RestoreWish) -> Restored:
        """Offer anew what an old release offered, in one new release; see `origin.publish.restoring`.

        Raises:
            NotFoundError: bad data; no such release was published.
            InputError: bad data; files are gone, or somebody released since. Nothing was changed.
            StorageError: environment; the old release is whole.
        """
        await self.check_ready()
        plan = await foresee_restore(self._shop, wish.number, wish.bring_back)
        patches = await prepare_patches(self._shop, plan)
        return await self._alone(lambda: run_restore(self._press, wish, patches))

    async def release_anew(self, note: str) -> int:
        """Release what is offered once more, under new numbers in every role; returns the catalog's version.

        Raises:
            ConfigurationError: environment; a key is absent or the clock is wrong. Nothing was changed.
            StorageError: environment; the old release is whole.
        """
        return await self._alone(lambda: run_anew(self._press, note))

    @property
    def shop(self) -> Workshop:
        """What releases are made with; for the rest of this room."""
        return self._shop

    async def act(self, work: Callable[[Press], Awaitable[T]], *, at_all_costs: bool = False) -> T:
        """One more act of this room, such as a pilot's next wave: alone, and to its end; or its stop, at all costs."""
        if at_all_costs:
            return await self._at_all_costs(lambda: self._alone(lambda: work(self._press)))
        return await self._alone(lambda: work(self._press))

    @asynccontextmanager
    async def held_still(self) -> AsyncIterator[None]:
        """Nothing is published, recalled or signed within; what a crash left behind is settled before.

        Raises:
            BusyError: environment; another publish did not end in time.
        """
        async with self._right(self._shop.lock_deadline_s):
            await self._press.repair()
            yield

    async def entrust(self, city: Region) -> CityRight:
        """Let a city publish its own catalog; see `origin.publish.cities`."""
        return await self._alone(lambda: run_entrust(self._press, city))

    async def withdraw(self, city: Region) -> CityRight:
        """Take that right back."""
        return await self._alone(lambda: run_withdraw(self._press, city))

    async def rights(self) -> tuple[CityRight, ...]:
        """Cities that may publish.

        Raises:
            ConfigurationError: environment; nothing was ever released.
        """
        return rights_of(await asyncio.to_thread(self._press.signatory.chain))

    async def released_by(self, number: int) -> str | None:
        """Whose a release is: a city's code, empty for the province; None when there is none of that number."""
        async with reading(self._shop.engine) as connection:
            row = await library.release_of(connection, number)
        return row.publisher if row is not None else None

    async def owner(self, courseware_id: str) -> str | None:
        """Whose a courseware is: a city's code, empty for the province; None when it is unknown."""
        async with reading(self._shop.engine) as connection:
            return await library.publisher_of(connection, courseware_id)

    async def repair(self) -> tuple[str, ...]:
        """Settle what a crash left behind; returns one line for each thing done."""
        return await self._alone(self._press.repair, repaired=True)

    async def renew(self) -> bool:
        """Sign anew what is due; to be called about hourly. False when nothing was due or a publish is under way.

        Raises:
            ConfigurationError: environment; the key of timestamp or snapshot is absent, or the clock is wrong.
        """
        wait_s = min(_RENEWAL_WAIT_S, self._shop.lock_deadline_s)
        try:
            return await self._at_all_costs(lambda: self._alone(lambda: run_renewal(self._press), deadline_s=wait_s))
        except BusyError:
            return False  # whoever holds the lock signs a timestamp at the end of its work

    async def rotate(self, role: str) -> Rotated:
        """Replace the keys of a role; edges follow without a visit. See `origin.publish.rotation`."""
        return await self._alone(lambda: run_rotation(self._press, role))

    async def previous_files(self, courseware_id: str, most: int = 3) -> list[tuple[File, ...]]:
        """Files of the last published versions of a courseware, newest first."""
        async with reading(self._shop.engine) as connection:
            return [item.files for item in await library.previous_documents(connection, courseware_id, most)]

    async def recall_renditions(self, video: Digest, recipe: str) -> str | None:
        """What was kept of the renditions of a video."""
        return await made.recall_renditions(self._shop.engine, video, recipe)

    async def keep_renditions(self, video: Digest, recipe: str, document: str, now: Instant) -> None:
        """Keep what was made of a video, for its next publish."""
        await made.keep_renditions(self._shop.engine, video, recipe, document, now)

    async def current(self, courseware_id: CoursewareId) -> Courseware | None:
        """What is offered under an id now."""
        async with reading(self._shop.engine) as connection:
            found = (await library.known(connection, [courseware_id])).get(courseware_id)
        return found.current if found else None

    async def current_catalog(self, publisher: str = "") -> tuple[BlobRef, Catalog]:
        """The catalog that a publisher offers now, proved against its digest.

        Raises:
            ConfigurationError: environment; nothing was ever released.
            DigestError: environment; the stored catalog is damaged.
        """
        async with reading(self._shop.engine) as connection:
            newest = await library.newest_release(connection, publisher)
        if newest is None or newest.catalog is None:
            raise ConfigurationError("nothing was ever released here", zh="此目录尚未初始化，没有任何发布")
        ref = newest.catalog
        data = bytearray()
        async for portion in self._shop.storage.read(ref.digest, 0, ref.size):
            data += portion
        catalog = await asyncio.to_thread(_prove_catalog, ref, bytes(data))
        return ref, catalog

    async def signed_catalog(self, publisher: str = "") -> Digest | None:
        """Name of the catalog that an edge which asks now is led to, None before the first release.

        Raises:
            StorageError: environment.
        """
        chain = await asyncio.to_thread(self._press.signatory.metadata.chain)
        role = entries_of(chain).get(role_for(publisher)) if chain is not None else None
        return Digest(role.targets[path_for(publisher)].hashes["sha256"]) if role is not None else None

    async def check_ready(self, publisher: str = "") -> None:
        """Find out whether a release could be signed, before the work that it takes is begun.

        Raises:
            ConfigurationError: environment; names the key that is absent or cannot be used, or the clock is wrong.
            StorageFullError: environment; what is left of the disk is kept for recalls and signatures.
        """
        if not await asyncio.to_thread(self._shop.ballast.take):
            raise StorageFullError(
                "what is left of the disk is kept for recalls and signatures",
                zh="磁盘剩余空间仅供撤回和续签使用，不能发布",
            )
        await asyncio.to_thread(self._press.signatory.check_keys, Job("", "", publisher=publisher).roles)
        await self._press.signing_time()

    async def can_sign(self, publisher: str = "") -> bool:
        """Tell whether the keys that a release takes are at hand, or somebody must bring them."""
        return await can_sign(self._press, publisher)

    async def root_text(self) -> str:
        """The newest root's exact text, for bundles.

        Raises:
            ConfigurationError: environment; nothing was ever released.
        """
        text = await asyncio.to_thread(self._press.signatory.metadata.root_text)
        if text is None:
            raise ConfigurationError("nothing was ever released here", zh="此目录尚未初始化，没有任何发布")
        return text

    async def expiries(self) -> dict[str, Instant]:
        """When each role's signature expires; for doctor and metrics."""
        chain = await asyncio.to_thread(self._press.signatory.chain)
        files = {
            "root": chain.root.signed,
            "targets": chain.targets.signed,
            "snapshot": chain.snapshot.signed,
            "timestamp": chain.timestamp.signed,
            **{role: file for role, file in entries_of(chain).items() if role != "targets"},
        }
        return {role: Instant(int(signed.expires.timestamp())) for role, signed in files.items()}

    async def _at_all_costs(self, act: Callable[[], Awaitable[T]]) -> T:
        """On a full disk, do it in the space that was set aside for it."""
        try:
            return await act()
        except StorageFullError:
            if not await asyncio.to_thread(self._shop.ballast.drop):
                raise
            _log.warning("ballast_dropped", reason="the disk is full")
            return await act()

    async def _alone(
        self, act: Callable[[], Awaitable[T]], *, repaired: bool = False, deadline_s: float | None = None
    ) -> T:
        wait_s = self._shop.lock_deadline_s if deadline_s is None else deadline_s
        async with self._right(wait_s):
            return await outlast(asyncio.ensure_future(act() if repaired else self._after_repair(act)))

    @asynccontextmanager
    async def _right(self, wait_s: float) -> AsyncIterator[None]:
        sharing = self._shop.sharing
        if sharing is None:
            async with publish_lock(self._shop.lock, wait_s):
                yield
            return
        # The lease first: who waits for another machine must not keep this one from following what that one signs.
        async with sharing.lease(wait_s) as lease, publish_lock(self._shop.lock, wait_s), sharing.holding(lease):
            yield

    async def _after_repair(self, act: Callable[[], Awaitable[T]]) -> T:
        if await asyncio.to_thread(self._press.signatory.metadata.newest_root) is not None:
            await self._press.repair()
        return await act()

    async def _establish(self, root_keys: int, threshold: int) -> None:
        now = await self._press.signing_time()
        await asyncio.to_thread(self._make_root, root_keys, threshold, now)
        if await asyncio.to_thread(self._press.signatory.metadata.chain) is None:
            await self._press.repair()
            await self._press.run(Job("init", "the first release, empty"), now)

    def _make_root(self, root_keys: int, threshold: int, now: Instant) -> None:
        metadata, keys = self._press.signatory.metadata, self._shop.keys
        if metadata.newest_root() is not None:
            return
        made = {role: [keys.create(role)] for role in ("targets", "snapshot", "timestamp")}
        signers = [keys.create(stem) for stem in stems("root", root_keys)]
        public = {role: [one.public_key for one in every] for role, every in {"root": signers, **made}.items()}
        metadata.write(sign(make_root(public, threshold, expiry(now, self._shop.terms.root_s)), signers))

    async def _publish(self, drafts: Sequence[Draft]) -> tuple[Released, ...]:
        now = await self._press.signing_time()
        publisher = drafts[0].publisher if drafts else ""
        async with reading(self._shop.engine) as connection:
            known = await library.known(connection, [draft.id for draft in drafts])
            columns = await library.all_columns(connection)
            newest = await library.newest_release(connection, publisher)
            faults = await known_faults(connection) if any(draft.pilot for draft in drafts) else {}
        plan = await asyncio.to_thread(plan_release, drafts, known, columns, now)
        if plan.changed:
            catalog_version = await self._press.run(_publish_job(plan, faults, publisher), now)
            await keep_pledge(self._shop.engine, [item.document for item in plan.changed], now)
        else:
            catalog_version = newest.catalog_version if newest else 0
        changed = {item.document.id for item in plan.changed}
        return tuple(_released(item.document, catalog_version, item.document.id in changed) for item in plan.items)

    async def _recall(self, courseware_id: CoursewareId, reason: str) -> Released:
        async with reading(self._shop.engine) as connection:
            known = (await library.known(connection, [courseware_id])).get(courseware_id)
            owner = known.publisher if known is not None else ""
            recalled = (await library.published_recalls(connection, owner)).get(courseware_id)
            recalled = recalled or (await library.published_recalls(connection)).get(courseware_id)
            newest = await library.newest_release(connection, owner)
            trial = (await trials(connection, [courseware_id])).get(courseware_id)
        if known is not None and known.current is not None:
            now = await self._press.signing_time()
            tried = trial.tried if trial is not None else None
            version = tried.version if tried is not None else known.current.version  # on no screen, in no region
            recall = Recall(id=courseware_id, version=version, reason=reason, at=dump_instant(now))
            note = f"{courseware_id} version {version}: {reason}"
            signer = owner if not owner or await self.can_sign(owner) else ""
            job = Job("recall", note, recall=recall, publisher=signer)
            return Released(courseware_id, version, await self._press.run(job, now), ())
        if recalled is not None and newest is not None:
            return Released(courseware_id, recalled.version, newest.catalog_version, (), changed=False)
        raise NotFoundError(f"courseware {courseware_id} is not offered here", zh=f"没有已发布的课件 {courseware_id}")


def _publish_job(plan: ReleasePlan, faults: Mapping[str, tuple[str, ...]], publisher: str) -> Job:
    versions = [NewVersion(item.document, item.originals) for item in plan.changed]
    offerings = [first_wave(item, item.pilot, faults) for item in plan.changed if item.pilot is not None]
    kind = "pilot" if offerings else "publish"
    return Job(kind, plan.note, versions=versions, columns=plan.new_columns, offerings=offerings, publisher=publisher)


def _released(item: Courseware, catalog_version: int, changed: bool) -> Released:
    return Released(CoursewareId(item.id), item.version, catalog_version, item.files, changed)


def _prove_catalog(ref: BlobRef, data: bytes) -> Catalog:
    check_bytes(data, ref.digest, ref.size, "the present catalog")
    return decode_catalog(data)
