"""Why not here? One sentence for each absence."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from support.formats import make_catalog, make_courseware, make_file
from support.province import COUNTY, DAY, NOON

from edge.sync.planner import Here, plan_sync
from edge.sync.promise import promise_plan
from edge.sync.wanting import Wanted
from edge.sync.whynot import Cause, Failure, WhyNot, failures_of, why_not
from manifests.instants import Instant, dump_instant
from manifests.line import Line
from manifests.model import Column, Courseware, Recall
from manifests.names import Region

SHANGHAI = ZoneInfo("Asia/Shanghai")  # NOON is Wednesday 18 November 2026, 19:06 there
PAST = dump_instant(Instant(NOON - DAY))
LINE = Line(default_rate=1_000_000)
WANTED = Wanted(Region(COUNTY), frozenset({"zl-one"}))


def lesson(id_: str, size: int = 1000, **fields: object) -> Courseware:
    file = make_file(blob=id_.encode().hex().rjust(64, "0"), size=size, table="ab" * 32 if size > 262144 else None)
    fields = {"id": id_, "title": f"课{id_}", "published": PAST, "columns": ("zl-one",), "files": (file,), **fields}
    return make_courseware(**fields)


def ask(
    *items: Courseware,
    installed: dict[str, int] | None = None,
    recalls: tuple[Recall, ...] = (),
    failures: dict[str, Failure] | None = None,
    room: int = 1 << 50,
    line: Line = LINE,
) -> dict[str, WhyNot]:
    catalog = make_catalog(
        courseware=tuple(sorted(items, key=lambda one: one.id)),
        columns=(Column("zl-one", "一"), Column("zl-two", "二")),
        recalls=recalls,
    )
    here = Here(installed or {}, set(), {}, room)
    plan = promise_plan(plan_sync(here, catalog, WANTED, NOON), line, SHANGHAI, NOON)
    found = why_not(catalog, plan, here.versions, WANTED, failures or {}, NOON, SHANGHAI)
    assert [one.id for one in found] == sorted(one.id for one in found)
    return {one.id: one for one in found}


@pytest.mark.parametrize(
    ("item", "cause", "text", "text_zh"),
    [
        (lesson("a", audience=("410200",)), Cause.AUDIENCE, "It is not meant for this region.", "不面向本地区。"),
        (
            lesson("a", columns=("zl-two",)),
            Cause.COLUMNS,
            "None of its columns is subscribed to here.",
            "所属专栏未在本地订阅。",
        ),
        (
            lesson("a", expires=dump_instant(Instant(NOON - 3600))),
            Cause.EXPIRED,
            "It expired: today 18:06.",
            "已于今天 18:06 到期。",
        ),
        (
            lesson("a", published=dump_instant(Instant(NOON + DAY))),
            Cause.NOT_YET,
            "It is not to be shown before Thursday 19:06.",
            "周四 19:06 才开放。",
        ),
        (
            lesson("a", size=3_600_000_000),
            Cause.WAITS,
            "It waits for its turn on the line (3.4 GiB), expected today 23:00.",
            "等待传输（3.4 GiB），预计今天 23:00 完成。",
        ),
        (
            lesson("a", size=1 << 39),
            Cause.WAITS,
            "It waits for its turn on the line (512.1 GiB), expected 7 Dec 22:43.",
            "等待传输（512.1 GiB），预计12月7日 22:43 完成。",
        ),
    ],
)
def test_one_sentence_for_each_cause(item: Courseware, cause: Cause, text: str, text_zh: str) -> None:
    assert {id_: (one.cause, one.text, one.text_zh) for id_, one in ask(item).items()} == {"a": (cause, text, text_zh)}


def test_what_is_here_needs_no_excuse() -> None:
    assert ask(lesson("a"), lesson("b", version=2), installed={"a": 1, "b": 1}) == {}


def test_no_room_says_what_is_needed_and_what_there_is() -> None:
    found = ask(lesson("a", size=5 << 20), room=1 << 20)["a"]
    assert found.cause is Cause.NO_ROOM
    assert found.text == "No room: it needs 5.0 MiB, 1.0 MiB may be used."
    assert found.text_zh == "磁盘空间不足：需要 5.0 MiB，可用 1.0 MiB。"
    assert "0 B may" in ask(lesson("a"), room=-7)["a"].text


def test_not_in_sight() -> None:
    found = ask(lesson("a", size=1 << 30), line=Line(default_rate=1))["a"]
    assert found.expected is None
    assert found.text.endswith("not in sight on this line.")
    assert found.text_zh.endswith("按目前线路速率短期内无法完成。")


def test_the_last_attempt_that_failed_is_told_with_what_comes_next() -> None:
    failures = failures_of(
        {"deferred": [{"id": "a", "reason": "upstream is gone", "reason_zh": "上游不可达"}, {"id": "z"}]}
    )
    found = ask(lesson("a"), lesson("b"), failures=failures)
    assert (found["a"].cause, found["b"].cause) == (Cause.FAILED, Cause.WAITS)
    assert found["a"].text == "The last attempt failed: upstream is gone; expected today 22:00."
    assert found["a"].text_zh == "上次获取失败：上游不可达；预计今天 22:00 完成。"
    assert found["a"].expected == "2026-11-18T14:00:01Z"


def test_a_recall_is_told_unless_a_later_version_is_offered() -> None:
    recalls = (Recall("a", 1, "第三段有误", PAST), Recall("b", 1, "x", PAST), Recall("c", 4, "x", PAST))
    found = ask(lesson("b", version=2), recalls=recalls, installed={"c": 5})
    assert {id_: one.cause for id_, one in found.items()} == {"a": Cause.RECALLED, "b": Cause.WAITS}
    assert found["a"].text_zh == "省级源站已撤回（周二 19:06）：第三段有误。"


@pytest.mark.parametrize("report", [None, [], {}, {"deferred": None}, {"deferred": [1, {}, {"reason": "x"}]}])
def test_a_report_that_says_nothing_explains_nothing(report: object) -> None:
    assert failures_of(report) == {}


def test_a_lesson_that_expired_is_explained_while_its_bytes_are_still_here() -> None:
    ended = lesson("a", expires=dump_instant(NOON))
    found = ask(ended, lesson("b"), installed={"a": 1, "b": 1})
    assert {id_: one.cause for id_, one in found.items()} == {"a": Cause.EXPIRED}
