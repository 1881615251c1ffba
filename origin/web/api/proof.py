"""Promise and proof: what a publish would mean, and of what was published, the promise held against the facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import select

from manifests.errors import NotFoundError
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.names import Region, is_within, parse_courseware_id
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.database.engine import reading
from origin.database.tables import versions
from origin.publish.pledges import Pledge, foretell, pledge_of
from origin.publish.promise import EdgePromise, ProvincePromise
from origin.publish.turns import Offer
from origin.stations.coverage import Coverage, Proof, Straggler, coverage_of
from origin.web.api.models import ByLesson
from origin.web.api.models_boards import (
    CurvePoint,
    ForetellBody,
    LessonProof,
    Outcome,
    Pledged,
    RecallProof,
    Verdict,
)
from origin.web.api.operations import Desk, Nothing, Operation

_SLOWEST: Final = 10


async def _foretell(desk: Desk, actor: Actor, _where: Nothing, body: ForetellBody) -> ProvincePromise:
    """A promise names edges; so it is made of those in one's own region only."""
    area = actor.account.region
    asked = tuple(Region(code) for code in body.audience) or (desk.publisher,)
    audience = _inside(asked, area)
    offer = Offer(body.bytes, audience, frozenset(body.columns), priority=body.priority)
    but = [body.replaces] if body.replaces else []
    return await foretell(desk.engine, [offer] if audience else [], desk.clock(), body.by, but)


def _inside(asked: Iterable[Region], area: Region) -> tuple[Region, ...]:
    """What lies in both: a part of one's own region as it is, of what is larger one's own region."""
    found = {one if is_within(one, area) else area for one in asked if is_within(one, area) or is_within(area, one)}
    return tuple(sorted(found))


async def _proof(desk: Desk, actor: Actor, where: ByLesson, _body: Nothing) -> LessonProof:
    id_, area = parse_courseware_id(where.id), actor.account.region
    told = await coverage_of(desk.engine, id_, where.version, area)
    spread = told.spread
    version = spread.version if spread else told.recall.version if told.recall else where.version or 0
    async with reading(desk.engine) as connection:
        query = select(versions.c.release, versions.c.published_at)
        row = (
            await connection.execute(query.where(versions.c.courseware == id_, versions.c.number == version))
        ).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no lesson {id_!r} of that version", zh=f"没有课件 {id_}（或没有这个版本）")
    pledge = await pledge_of(desk.engine, row.release)
    return make_proof(told, version, Instant(row.published_at), pledge, area, desk.clock())


def make_proof(
    told: Coverage, version: int, published: Instant, pledge: Pledge | None, area: Region, now: Instant
) -> LessonProof:
    """Hold a promise against the facts, for the edges of an area."""
    spread = told.spread
    proofs, tail = (spread.proofs, spread.tail) if spread else ((), ())
    seen = {one.edge for one in proofs} | {one.edge for one in tail}
    # An edge that was removed, or keeps other columns by now, is not what was promised of any more.
    made = [one for one in _promises(pledge, area) if one.code in seen]
    pledged = _pledged(pledge, area) if pledge else None
    due = parse_instant(pledged.due) if pledged and pledged.due else None
    is_due = due is not None and due <= now
    return LessonProof(
        id=told.id,
        title=told.title,
        version=version,
        published=dump_instant(published),
        meant=spread.meant if spread else 0,
        proved=spread.proved if spread else 0,
        pledge=pledged,
        by_due=sum(parse_instant(one.at) <= due for one in proofs) if due is not None and is_due else None,
        curve=_curve(proofs, [one.expected for one in made if one.expected], published, now) if spread else (),
        edges=tuple(_verdicts(proofs, tail, {one.code: one for one in made}, now, due)),
        recall=_recall(told, now),
    )


def _promises(pledge: Pledge | None, area: Region) -> list[EdgePromise]:
    if pledge is None:
        return []
    every = (*pledge.promise.promises, *pledge.promise.tail)
    return [one for one in every if is_within(Region(one.region), area)]


def _pledged(pledge: Pledge, area: Region) -> Pledged:
    made = pledge.promise
    every = _promises(pledge, area)
    in_time = [one for one in every if one.cause is None]
    late = {one.region for one in every if one.cause is not None}
    # The promise names edges of the whole province: what it delays elsewhere is told to those who answer for all.
    is_all = len(every) == made.edges
    return Pledged(
        made=dump_instant(pledge.made_at),
        by=made.by,
        due=made.due,
        edges=len(every),
        in_time=len(in_time),
        counties=len({one.region for one in every}),
        counties_in_time=len({one.region for one in in_time} - late),
        last=max((one.expected for one in every if one.expected), default=None),
        delays=made.delays if is_all else (),
    )


def _curve(proofs: Sequence[Proof], promised: Sequence[str], begins: Instant, now: Instant) -> tuple[CurvePoint, ...]:
    """Both steps over time, from the beginning to now, or to the last that is promised."""
    done = [one.at for one in proofs]
    ends = max(dump_instant(now), *promised, *done) if promised or done else dump_instant(now)
    moments = sorted({dump_instant(begins), ends, *done, *promised})
    return tuple(CurvePoint(at, sum(one <= at for one in done), sum(one <= at for one in promised)) for at in moments)


def _verdicts(
    proofs: Sequence[Proof],
    tail: Sequence[Straggler],
    promised: Mapping[str, EdgePromise],
    now: Instant,
    due: Instant | None,
) -> Iterable[Verdict]:
    """Those that lack it first, as the tail has them; then those that have it, the last one first."""
    for one in tail:
        pledge = promised.get(one.edge)
        expected = pledge.expected if pledge else None
        is_over = expected is not None and parse_instant(expected) < now
        why, why_zh = one.why or (pledge.reason if pledge else ""), one.why or (pledge.reason_zh if pledge else "")
        verdict: Outcome = "lacking" if expected is None else "broken" if is_over else "waiting"
        yield Verdict(one.edge, one.name, one.region, expected, None, verdict, why, why_zh)
    for proof in reversed(proofs):
        pledge = promised.get(proof.edge)
        kept = _outcome(pledge, parse_instant(proof.at), due)
        yield Verdict(proof.edge, proof.name, proof.region, pledge.expected if pledge else None, proof.at, kept, "", "")


def _outcome(pledge: EdgePromise | None, at: Instant, due: Instant | None) -> Outcome:
    """Of one that has it: who was promised to be in time has until then, the others until their own hour."""
    if pledge is None or pledge.expected is None:
        return "unpromised"
    expected = parse_instant(pledge.expected)
    limit = max(expected, due) if due is not None and pledge.cause is None else expected
    return "kept" if at <= limit else "late"


def _recall(told: Coverage, now: Instant) -> RecallProof | None:
    back = told.recall
    if back is None or told.recalled_at is None:
        return None
    return RecallProof(
        version=back.version,
        recalled=told.recalled_at,
        meant=back.meant,
        proved=back.proved,
        curve=_curve(back.proofs, (), parse_instant(told.recalled_at), now),
        slowest=tuple(reversed(back.proofs))[:_SLOWEST],
        tail=back.tail,
    )


OPERATIONS = (
    Operation(
        "promises.foretell",
        "POST",
        "/promises",
        "What a publish would mean: who would hold it by a time of day, what it would delay; changes nothing",
        "发布预估：到某一时刻哪些边缘服务器能具备，会推迟哪些课件；不做任何改动",
        _foretell,
        body=ForetellBody,
        answer=ProvincePromise,
        action=Action.EDGES_READ,
    ),
    Operation(
        "lessons.proof",
        "GET",
        "/lessons/{id}/proof",
        "Promise against fact of one lesson, edge by edge, and how its recall went",
        "单个课件的承诺与实际：逐台对照，以及撤回进展",
        _proof,
        where=ByLesson,
        answer=LessonProof,
        action=Action.EDGES_READ,
    ),
)
