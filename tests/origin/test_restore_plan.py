"""The plan of a restore: worked examples, and what must hold for any two offers."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from support.releases import file_of

from manifests.instants import Instant
from manifests.model import Courseware, Recall
from manifests.names import Region
from origin.publish.planner import substance
from origin.publish.restore_plan import Fate, Library, Offer, RestorePlan, plan_restore, wanted_blobs

NOW = Instant(1_795_000_000)
AT = "2026-11-01T00:00:00Z"


def lesson(key: str, version: int, content: str = "one", **changes: object) -> Courseware:
    made = Courseware(
        id=key,
        version=version,
        title=f"课件 {key}",
        kind="video",
        audience=("410000",),
        published=AT,
        files=(file_of(content),),
    )
    return msgspec.structs.replace(made, **changes)


def library(
    now: Mapping[str, Offer], then: Mapping[str, Offer], recalls: Mapping[str, int] | None = None, newest: int = 9
) -> Library:
    told = {key: Recall(id=key, version=version, reason="有误", at=AT) for key, version in (recalls or {}).items()}
    found = [offer.document for side in (now, then) for offer in side.values()]
    found += [offer.tried for offer in now.values() if offer.tried]
    highest: dict[str, int] = {}
    for item in found:
        highest[item.id] = max(highest.get(item.id, 0), item.version, told[item.id].version if item.id in told else 0)
    return Library(newest, now, then, told, highest)


def plan(found: Library, gone: frozenset[str] = frozenset(), back: frozenset[str] = frozenset()) -> RestorePlan:
    return plan_restore(4, found, gone, back, NOW)


def rows(made: RestorePlan) -> list[tuple[str, str, int, int, str]]:
    return [(one.id, str(one.fate), one.version, one.then, one.reason) for one in made.items]


def test_each_fate_has_its_reason() -> None:
    county = (Region("410122"),)
    now = {
        "same": Offer(lesson("same", 1)),
        "changed": Offer(lesson("changed", 3, "two")),
        "new": Offer(lesson("new", 1)),
        "tried-then": Offer(lesson("tried-then", 1)),
        "renamed-back": Offer(lesson("renamed-back", 3)),
        "on-trial": Offer(lesson("on-trial", 1), county, lesson("on-trial", 2, "two")),
        "recalled-once": Offer(lesson("recalled-once", 2, "two")),
    }
    then = {
        "same": Offer(lesson("same", 1)),
        "changed": Offer(lesson("changed", 1)),
        "gone": Offer(lesson("gone", 2)),
        "ended": Offer(lesson("ended", 1, expires="2026-11-02T00:00:00Z")),
        "tried-then": Offer(lesson("tried-then", 1), county),
        "renamed-back": Offer(lesson("renamed-back", 1)),
        "on-trial": Offer(lesson("on-trial", 1)),
        "recalled": Offer(lesson("recalled", 2)),
        "recalled-once": Offer(lesson("recalled-once", 1)),
        "only-tried": Offer(lesson("only-tried", 1), county),
    }
    made = plan(library(now, then, {"recalled": 2, "recalled-once": 1}))
    assert rows(made) == [
        ("changed", "change", 3, 1, "version 3 goes back to what version 1 was"),
        ("ended", "back", 0, 1, "it is not offered any more; it has expired, so nobody is shown it"),
        ("gone", "back", 0, 2, "it is not offered any more"),
        ("new", "away", 1, 0, "it was not offered then"),
        ("on-trial", "change", 1, 1, "its pilot ends with this"),
        ("recalled", "recalled", 0, 2, "recalled since: 有误"),
        ("recalled-once", "recalled", 2, 1, "recalled since: 有误; version 2 stays"),
        ("tried-then", "away", 1, 0, "it was only on trial then, in some regions"),
    ]
    assert made.unchanged == 2
    assert {one.id: one.document.version for one in made.items if one.document} == {
        "changed": 4,
        "ended": 2,
        "gone": 3,
        "on-trial": 3,
    }, "above all that was ever given out, a version on trial too"
    assert made.note == "as release 4: 2 back, 2 changed, 2 taken away"


IDS = st.sampled_from(["a", "b", "c", "d"])
CONTENTS = st.sampled_from(["one", "two", "three"])


@st.composite
def libraries(draw: st.DrawFn) -> Library:
    sides = []
    for _ in range(2):
        side = {}
        for key in draw(st.sets(IDS)):
            version = draw(st.integers(1, 4))
            tried = draw(st.sampled_from([None, None, "narrow", "next"]))
            areas = (Region("410122"),) if tried else ()
            # One version is one content, whichever side it stands on.
            document = lesson(key, version, ["one", "two", "three"][version % 3])
            after = lesson(key, version + 1, "three") if tried == "next" else None
            side[key] = Offer(document, areas, after)
        sides.append(side)
    now, then = sides
    recalls = {
        key: version
        for key, version in draw(st.dictionaries(IDS, st.integers(1, 4))).items()
        if key not in now or now[key].document.version > version
    }
    return library(now, then, recalls)


def apply(found: Library, made: RestorePlan) -> dict[str, Offer]:
    """What is offered after a plan was carried out."""
    after = dict(found.now)
    for item in made.changed:
        if item.document is None:
            del after[item.id]
        else:
            after[item.id] = Offer(item.document)
    return after


@given(libraries(), st.frozensets(IDS))
def test_after_a_restore_all_get_what_they_got_then_but_for_what_the_plan_names(
    found: Library, back: frozenset[str]
) -> None:
    made = plan(found, back=back)
    after = apply(found, made)
    kept = {one.id for one in made.of(Fate.RECALLED)}
    for key in {*found.now, *found.then} - kept:
        then = found.then.get(key)
        if then is None or (then.is_narrow and found.now.get(key) != then):
            assert key not in after
        else:
            assert substance(after[key].document) == substance(then.document)
    for key in kept:
        assert after.get(key) == found.now.get(key)
        assert key not in back
    for item in made.items:
        if item.document is not None:
            assert item.document.version > found.highest[item.id], "versions only rise"
            recall = found.recalls.get(item.id)
            assert recall is None or recall.version < item.document.version


@given(libraries())
def test_restored_and_restored_back_gives_the_same_offer(found: Library) -> None:
    everything = frozenset({*found.now, *found.then})
    after = apply(found, plan(found, back=everything))
    back = library(after, found.now, {key: one.version for key, one in found.recalls.items()}, 10)
    again = apply(back, plan(back, back=everything))
    whole = {key: one for key, one in found.now.items() if not one.is_narrow or after.get(key) == one}
    assert {key: substance(one.document) for key, one in again.items()} == {
        key: substance(one.document) for key, one in whole.items()
    }
    assert plan(Library(11, again, again, {}, back.highest)).items == ()


@given(libraries(), st.frozensets(CONTENTS))
def test_nothing_is_offered_whose_file_is_gone(found: Library, contents: frozenset[str]) -> None:
    gone = frozenset(file_of(content).blob for content in contents)
    made = plan(found, gone)
    assert gone.isdisjoint(wanted_blobs(made))
    assert {one.id for one in made.items} == {one.id for one in plan(found).items}, "each is still named"
