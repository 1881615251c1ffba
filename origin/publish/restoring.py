"""Restoring an old release in one step: what was offered then is offered anew, in one new release.

Patches are made before the publish lock is taken, from what edges hold now to what they will; the plan is made once
more under the lock, so what somebody published meanwhile is not run over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from manifests.digests import Digest
from manifests.errors import InputError, NotFoundError, StorageFullError
from manifests.model import MAX_PATCHES, Column, Courseware, File, Patch
from manifests.names import parse_courseware_id
from manifests.pieces import BlobRef
from origin.database import library, offerings
from origin.database.engine import reading
from origin.database.offerings import NewOffering, Past
from origin.database.releases import NewVersion
from origin.database.tables import PUBLISHED
from origin.publish.failpoints import reach
from origin.publish.matching import match_previous
from origin.publish.patching import make_patch
from origin.publish.planner import check_document
from origin.publish.press import Job, Press, Workshop
from origin.publish.restore_plan import Fate, Library, Offer, RestorePlan, plan_restore, wanted_blobs

log = structlog.get_logger(__name__)

# New bytes to which patches are made before a restore: some seconds of work for each thousand million. Beyond that,
# edges fetch pieces.
MAX_PATCHED_BYTES: Final = 8 << 30
_MOST_ASKED: Final = 500

Patches = Mapping[tuple[str, str], Patch]
"""By the blob that a patch starts from and the one that it leads to."""


@dataclass(frozen=True, slots=True)
class RestoreWish:
    """What somebody asks for.

    Attributes:
        number: the release.
        bring_back: ids whose recall is undone.
        newest: the release that they saw as the newest; None when they saw none.
        partly: go on without the lessons whose files are gone.
    """

    number: int
    bring_back: tuple[str, ...] = ()
    newest: int | None = None
    partly: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done: the plan that was carried out and the catalog that it gave."""

    plan: RestorePlan
    catalog_version: int

    @property
    def changed(self) -> bool:
        """A release was made."""
        return bool(self.plan.changed)


class ChangedMeanwhileError(InputError):
    """What was looked at is not what is there now: look again."""

    http_status = 409


async def foresee_restore(shop: Workshop, number: int, bring_back: Collection[str] = ()) -> RestorePlan:
    """What restoring a release would change. Changes nothing.

    Raises:
        NotFoundError: bad data; no such release was published.
        StorageError: environment.
    """
    wanted = {parse_courseware_id(one) for one in bring_back}
    now = shop.clock()
    found = await _read(shop, number)
    plan = await asyncio.to_thread(plan_restore, number, found, (), wanted, now)
    gone = await gone_blobs(shop, wanted_blobs(plan))
    return await asyncio.to_thread(plan_restore, number, found, gone, wanted, now) if gone else plan


async def run_restore(press: Press, wish: RestoreWish, patches: Patches) -> Restored:
    """Carry out a restore. The caller holds the publish lock and has repaired.

    Raises:
        NotFoundError: bad data; no such release was published.
        ChangedMeanwhileError: bad data; somebody released since the plan was looked at.
        InputError: bad data; files are gone. Nothing was changed.
        StorageError: environment; the old release is whole.
    """
    plan = await foresee_restore(press.shop, wish.number, wish.bring_back)
    if wish.newest is not None and wish.newest != plan.newest:
        raise ChangedMeanwhileError(
            f"release {plan.newest} came out since you looked",
            zh=f"查看之后又有新的发布（第 {plan.newest} 次）",
            hint="look at the plan again",
            hint_zh="请重新查看恢复方案",
        )
    _refuse_lost(plan, wish.partly)
    now = await press.signing_time()
    async with reading(press.shop.engine) as connection:
        restored = await library.release_of(connection, wish.number)
    publisher = restored.publisher if restored is not None else ""
    if not plan.changed:
        async with reading(press.shop.engine) as connection:
            newest = await library.newest_release(connection, publisher)
        return Restored(plan, newest.catalog_version if newest else 0)
    documents = [_patched(item.document, patches) for item in plan.changed if item.document is not None]
    async with reading(press.shop.engine) as connection:
        columns = await library.all_columns(connection)
    await asyncio.to_thread(_check_all, documents, columns)
    kept = await _originals(press.shop, plan)
    job = Job(
        "restore",
        plan.note,
        versions=[NewVersion(one, kept.get(one.id, ())) for one in documents],
        offerings=[NewOffering(item.id, None) for item in plan.of(Fate.AWAY)],
        publisher=publisher,
    )
    return Restored(plan, await press.run(job, now))


async def prepare_patches(shop: Workshop, plan: RestorePlan) -> Patches:
    """Make patches from what edges hold now to what a restore offers, largest files first, as far as they are worth it.

    Without one an edge fetches pieces: dearer, but no reason to hold a restore back.
    """
    async with reading(shop.engine) as connection:
        now = await _offers(connection, await offerings.offered_at(connection), [item.id for item in plan.changed])
    pairs: list[tuple[File, File]] = []
    for item in plan.of(Fate.CHANGE):
        if item.document is not None and item.id in now:
            offer = now[item.id]
            held = [one.files for one in (offer.tried, offer.document) if one is not None]
            pairs += pairs_between(held, item.document.files)
    return await make_patches(shop, pairs)


def pairs_between(held: Sequence[Sequence[File]], files: Sequence[File]) -> list[tuple[File, File]]:
    """Which file that edges hold may give which that they will, but for those that they have or build from others."""
    return [
        (old, file)
        for file in files
        if not _is_derived(file, files)
        for old in match_previous(file, files, held)
        if old.blob != file.blob
    ]


async def make_patches(shop: Workshop, pairs: Iterable[tuple[File, File]]) -> Patches:
    """Make patches, largest files first, until enough is made."""
    made: dict[tuple[str, str], Patch] = {}
    left = MAX_PATCHED_BYTES
    for old, new in sorted(pairs, key=lambda pair: -pair[1].size):
        if (old.blob, new.blob) in made or new.size > left:
            continue
        left -= new.size
        try:
            patch = await make_patch(shop.storage, shop.staging, old.ref, new.ref, shop.patch_max_ratio)
        except (NotFoundError, StorageFullError) as error:
            log.warning("patch_skipped", file=new.name, reason=error.message)
            continue
        if patch is not None:
            made[old.blob, new.blob] = patch
    reach("restore:patched")
    return made


def with_patches(document: Courseware, patches: Patches) -> Courseware:
    """A document whose files list these patches too, the new ones first."""
    files = []
    for file in document.files:
        new = [patch for (_, to), patch in patches.items() if to == file.blob]
        sources = {patch.source for patch in new}
        every = (*new, *(patch for patch in file.patches if patch.source not in sources))
        files.append(msgspec.structs.replace(file, patches=every[:MAX_PATCHES]))
    return msgspec.structs.replace(document, files=tuple(files))


async def gone_blobs(shop: Workshop, digests: Iterable[str]) -> frozenset[str]:
    """Which of these blobs the storage does not have.

    Raises:
        StorageError: environment.
    """
    wanted = sorted(set(digests))
    if len(wanted) > _MOST_ASKED:  # a bucket is listed rather than asked fifty thousand times
        here = {digest async for digest in shop.storage.digests()}
        return frozenset(wanted) - here
    return frozenset([one for one in wanted if await shop.storage.size(Digest(one)) is None])


def _patched(document: Courseware, patches: Patches) -> Courseware:
    return with_patches(document, patches) if patches else document


def _is_derived(file: File, files: Sequence[File]) -> bool:
    """A file that is built from another one of its lesson: a rendition."""
    own = {one.blob for one in files}
    return any(patch.source in own for patch in file.patches)


def _check_all(documents: Sequence[Courseware], columns: Sequence[Column]) -> None:
    for document in documents:
        check_document(document, columns)


def _refuse_lost(plan: RestorePlan, partly: bool) -> None:
    lost = plan.of(Fate.REFUSED)
    if lost and not partly:
        shown = ", ".join(f"{item.id} ({item.reason})" for item in lost[:3])
        shown_zh = "；".join(f"{item.title}（{item.reason_zh}）" for item in lost[:3])
        raise InputError(
            f"{len(lost)} lessons cannot be restored: {shown}",
            zh=f"{len(lost)} 个课件无法恢复：{shown_zh}",
            hint="put the files back from a backup, or restore the others without these",
            hint_zh="请从备份找回文件，或选择不含这些课件的恢复",
        )


async def _read(shop: Workshop, number: int) -> Library:
    """One reading of the library, at one moment."""
    async with reading(shop.engine) as connection:
        row = await library.release_of(connection, number)
        newest = await library.newest_release(connection, row.publisher) if row is not None else None
        if newest is None or row is None or row.state != PUBLISHED:
            raise NotFoundError(f"no release {number} was published", zh=f"没有第 {number} 次发布")
        own = await library.ids_of(connection, row.publisher)
        past = {id_: one for id_, one in (await offerings.offered_at(connection, number)).items() if id_ in own}
        present = {id_: one for id_, one in (await offerings.offered_at(connection)).items() if id_ in own}
        differ = [id_ for id_ in {*past, *present} if past.get(id_) != present.get(id_)]
        same = {id_ for id_, one in present.items() if one.version is not None} - set(differ)
        now, then = await _offers(connection, present, differ), await _offers(connection, past, differ)
        recalls = await library.published_recalls(connection, row.publisher)
        highest = await offerings.highest_versions(connection, differ)
    return Library(newest.number, now, then, recalls, highest, len(same))


async def _offers(connection: AsyncConnection, said: Mapping[str, Past], ids: Iterable[str]) -> dict[str, Offer]:
    """What was offered of some lessons, with the documents."""
    wanted = {id_: said[id_] for id_ in ids if id_ in said and said[id_].version is not None}
    keys = {(id_, number) for id_, one in wanted.items() for number in (one.version, one.tried) if number is not None}
    documents = await offerings.documents_of(connection, keys)
    return {
        id_: Offer(
            documents[id_, one.version],
            one.areas,
            documents[id_, one.tried] if one.tried is not None else None,
        )
        for id_, one in wanted.items()
        if one.version is not None
    }


async def _originals(shop: Workshop, plan: RestorePlan) -> dict[str, tuple[BlobRef, ...]]:
    """What the versions that come back were made from: it belongs to the new versions as well."""
    wanted = {item.id: item.then for item in plan.changed if item.document is not None}
    async with reading(shop.engine) as connection:
        return await library.originals_of(connection, wanted)
