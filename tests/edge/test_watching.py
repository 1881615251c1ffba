"""What was watched: lines of the log, rotated and half-written ones too, counted once and told by the hour."""

from __future__ import annotations

import itertools
import os
import sqlite3
from datetime import UTC, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.paths import Paths
from edge.report.logtail import Place, read_on
from edge.report.outbox import Outbox
from edge.report.watcher import KINDS_NOTE, Watcher, tell_watching
from edge.report.watchfile import AGAIN_S, WatchFile
from edge.report.watching import PAUSE_S, Counted, Terminal, View, count, parse_view
from edge.serve.accessline import Visit, dump_combined, dump_json, moment_of, stamp_of
from edge.serve.logfile import LogBounds, LogFile
from manifests.instants import Instant, dump_instant
from manifests.reports import HOUR_S, LessonWatched

NOON = Instant(1_795_060_800)
ZONE = timezone(timedelta(hours=8))
BOUNDS = LogBounds(1 << 20, 30)


def line(
    target: str, at: int = NOON, *, address: str = "10.1.0.7", status: int = 206, sent: int = 1000, form: str = ""
) -> bytes:
    """As the access log writes it."""
    visit = Visit(address, "GET", target, "HTTP/1.1", status, sent, 0.01, "", "stb/1.0")
    text = dump_json(visit, moment_of(at, ZONE)) if form == "json" else dump_combined(visit, stamp_of(at, ZONE))
    return text.encode()


def no_article(_id: str) -> bool:
    return False


@pytest.mark.parametrize("form", ["combined", "json"])
@pytest.mark.parametrize(
    ("target", "watched"),
    [
        ("/media/wheat/video.mp4", "wheat"),
        ("/media/wheat/video.mp4?t=1&token=x", "wheat"),
        ("/media/kj-1/%E9%9F%B3.m4a", "kj-1"),
        ("/media/kj-1/a.pdf", "kj-1"),
        ("/media/wheat/poster.JPG", None),
        ("/media/wheat/zh.vtt", None),
        ("/media/wheat/video.m3u8", None),
        ("/media/wheat", None),
        ("/media/wheat/a/b", None),
        ("/media/%2e%2e/video.mp4", None),
        ("/media/WHEAT!/video.mp4", None),
        ("/blobs/" + "0" * 64, None),
        ("/static/media/x.js", None),
        ("/lessons/wheat", "wheat"),
        ("/lessons/wheat/x", None),
        ("/lessons/", None),
    ],
)
def test_which_lines_are_views(form: str, target: str, watched: str | None) -> None:
    view = parse_view(line(target, form=form))
    assert (view.courseware if view else None) == watched
    if view:
        assert view == View("10.1.0.7", str(watched), target.startswith("/lessons"), 1000, NOON)


@pytest.mark.parametrize("form", ["combined", "json"])
def test_what_is_no_answer_with_bytes_is_no_view(form: str) -> None:
    for status, sent in ((304, 10), (404, 10), (416, 10), (206, 0)):
        assert parse_view(line("/media/wheat/video.mp4", status=status, sent=sent, form=form)) is None
    assert parse_view(line("/media/wheat/video.mp4", form=form).replace(b"GET", b"HEAD")) is None


@given(st.binary(max_size=200))
def test_no_line_breaks_the_reading(noise: bytes) -> None:
    for whole in (noise, b"/media/ " + noise, line("/media/wheat/v.mp4")[:60] + noise, b'{"target":"/media/' + noise):
        parse_view(whole)


@given(st.text(max_size=80), st.text(max_size=40), st.integers(0, 1 << 33), st.sampled_from(["", "json"]))
def test_whatever_a_client_sends_is_a_view_of_what_it_asked_or_none(rest: str, agent: str, at: int, form: str) -> None:
    visit = Visit("::1", "GET", f"/media/wheat/{rest}", "HTTP/1.1", 200, 5, 0.0, agent, agent)
    text = dump_json(visit, moment_of(at, UTC)) if form else dump_combined(visit, stamp_of(at, UTC))
    view = parse_view(text.encode("utf-8", "replace"))
    assert view is None or (view.courseware, view.bytes, view.at) == ("wheat", 5, at)


views = st.lists(
    st.builds(
        View,
        st.sampled_from(["10.1.0.1", "10.1.0.2", "10.1.0.3"]),
        st.sampled_from(["wheat", "maize"]),
        st.just(False),
        st.integers(1, 1000),
        st.integers(0, 4 * HOUR_S).map(lambda s: Instant(NOON + s)),
    ),
    max_size=40,
)


def _naive(found: list[View]) -> dict[tuple[int, str], tuple[int, int, int]]:
    """By looking back at everything, for each view."""
    told: dict[tuple[int, str], tuple[int, int, int]] = {}
    for hour in {one.at - one.at % HOUR_S for one in found}:
        for id_ in {one.courseware for one in found}:
            mine = [one for one in found if one.courseware == id_ and one.at - one.at % HOUR_S == hour]
            plays = 0
            for one in mine:
                earlier = [x.at for x in found[: found.index(one)] if (x.address, x.courseware) == (one.address, id_)]
                plays += not earlier or one.at - max(earlier) > PAUSE_S
            if mine:
                told[hour, id_] = (plays, len({one.address for one in mine}), sum(one.bytes for one in mine))
    return told


@settings(max_examples=60, deadline=None)
@given(views, st.integers(0, 40))
def test_counting_in_portions_is_counting_at_once(found: list[View], cut: int) -> None:
    found = sorted({(*one,): one for one in found}.values(), key=lambda one: one.at)
    file = WatchFile(_memory())
    for portion in (found[:cut], found[cut:]):
        seen = file.seen(Terminal(one.address, one.courseware) for one in portion)
        file.take(count(portion, seen, no_article), Place())
    told = {
        (one.hour, id_): tuple(figures)
        for one in file.to_tell(Instant(NOON + 9 * HOUR_S))
        for id_, figures in one.body.lessons.items()
    }
    assert told == _naive(found)
    for one in file.to_tell(Instant(NOON + 9 * HOUR_S)):
        assert one.body.terminals == len({v.address for v in found if v.at - v.at % HOUR_S == one.hour})


def _memory() -> sqlite3.Connection:
    from edge.report.watchfile import _SCHEMA

    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(_SCHEMA)
    return db


def test_a_lesson_is_begun_anew_after_half_an_hour_of_nothing_and_articles_on_their_page() -> None:
    def of(*seconds: int) -> list[View]:
        return [View("10.1.0.1", "wheat", True, 10, Instant(NOON + s)) for s in seconds]

    is_article = "wheat".__eq__
    assert count(of(0, 1, PAUSE_S + 1), {}, is_article).figures == {(NOON - NOON % HOUR_S, "wheat"): (1, 30)}
    assert sum(plays for plays, _ in count(of(0, PAUSE_S + 1), {}, is_article).figures.values()) == 2
    assert count(of(0), {}, no_article) == Counted()
    seen = {Terminal("10.1.0.1", "wheat"): NOON}
    assert count(of(60), seen, is_article).figures[NOON - NOON % HOUR_S, "wheat"] == (0, 10)


def test_the_log_is_read_on_over_files_that_were_set_aside(tmp_path: Path) -> None:
    small = LogFile(tmp_path, LogBounds(8 * 4096, 30), ZONE)
    place, read, wrote = Place(), [], []
    for number in range(300):
        wrote.append(line(f"/media/wheat/{number}.mp4", NOON + number))
        small.write(wrote[-1], NOON + number)
        if number % 7 == 0:
            lines, place = read_on(tmp_path, place, 700)
            read += lines
    while (portion := read_on(tmp_path, place, 700)).lines:
        read, place = read + portion.lines, portion.place
    assert len(list(tmp_path.glob("access-*.log"))) > 2
    small.close()
    assert read == [one.rstrip(b"\n") for one in wrote]


def test_a_line_that_is_still_written_waits_and_one_without_end_is_stepped_over(tmp_path: Path) -> None:
    log, whole = tmp_path / "access.log", line("/media/wheat/v.mp4")
    log.write_bytes(whole + whole[:40])
    lines, place = read_on(tmp_path, Place(), 4096)
    assert lines == [whole.rstrip(b"\n")]
    assert read_on(tmp_path, place, 4096).lines == []
    log.write_bytes(whole + whole + b"x" * 9000)
    lines, place = read_on(tmp_path, place, 4096)
    assert lines == [whole.rstrip(b"\n")]
    for _ in range(4):
        lines, place = read_on(tmp_path, place, 4096)
        assert lines == []
    assert place.offset > 4096
    assert read_on(tmp_path / "none", Place(), 4096) == ([], Place())


def test_nothing_is_counted_twice_when_somebody_else_renames_or_empties_the_log(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(b"".join(line(f"/media/wheat/{n}.mp4") for n in range(9)))
    lines, place = read_on(tmp_path, Place(), 1 << 20)
    assert len(lines) == 9
    log.rename(tmp_path / "access.log.1")
    assert read_on(tmp_path, place, 1 << 20).lines == []
    new = line("/media/maize/1.mp4", NOON + 9)
    log.write_bytes(new)
    lines, place = read_on(tmp_path, place, 1 << 20)
    assert lines == [new.rstrip(b"\n")]
    log.write_bytes(b"")
    assert read_on(tmp_path, place, 1 << 20).lines == []


def test_files_that_were_read_are_not_read_again_when_the_current_one_is_taken_away(tmp_path: Path) -> None:
    aside, log = tmp_path / "access-20261127-000001.log", tmp_path / "access.log"
    aside.write_bytes(line("/media/wheat/1.mp4"))
    os.utime(aside, (NOON, NOON))
    log.write_bytes(line("/media/wheat/2.mp4"))
    place, read = Place(), []
    for _ in range(2):
        lines, place = read_on(tmp_path, place, 1 << 20)
        read += lines
    assert len(read) == 2
    log.unlink()
    assert read_on(tmp_path, place, 1 << 20).lines == []


def test_hours_are_told_when_they_end_a_running_one_now_and_then_and_only_to_who_takes_them(tmp_path: Path) -> None:
    paths, folder = Paths(tmp_path), tmp_path / "log"
    log, watcher = LogFile(folder, BOUNDS, ZONE), Watcher(Paths(tmp_path), folder)
    log.write(line("/media/wheat/v.mp4", NOON) + line("/media/wheat/v.mp4", NOON + 5, address="10.1.0.8"), NOON)
    assert watcher.look() == 2
    assert watcher.look() == 0
    with Outbox.open(tmp_path / "outbox.sqlite", Instant(1)) as outbox:
        assert tell_watching(outbox, paths.watching, NOON) == 0, "nobody said yet that it takes them"
        outbox.set_note(KINDS_NOTE, [])
        assert tell_watching(outbox, paths.watching, NOON) == 0
        outbox.set_note(KINDS_NOTE, ["watching", "later"])
        assert [tell_watching(outbox, paths.watching, Instant(NOON + s)) for s in (0, 1)] == [1, 0]
        log.write(line("/media/wheat/v.mp4", NOON + 60), NOON)
        watcher.look()
        assert tell_watching(outbox, paths.watching, Instant(NOON + 60)) == 0
        assert tell_watching(outbox, paths.watching, Instant(NOON + AGAIN_S)) == 1
        ends = Instant(NOON - NOON % HOUR_S + HOUR_S)
        assert [tell_watching(outbox, paths.watching, Instant(ends + s)) for s in (0, 0, HOUR_S)] == [1, 0, 0]
        bodies = [row.body for row in outbox.unsent(9, 1 << 20)]
        assert {row.kind for row in outbox.unsent(9, 1 << 20)} == {"watching"}
    hour = dump_instant(Instant(NOON - NOON % HOUR_S))
    assert bodies[0] == f'{{"hour":"{hour}","terminals":2,"lessons":{{"wheat":[2,2,2000]}}}}'.encode()
    assert bodies[1:] == [bodies[0].replace(b"2000", b"3000")] * 2
    log.close()


def test_a_damaged_file_is_begun_anew_and_what_is_old_goes(tmp_path: Path) -> None:
    path = tmp_path / "watching.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with WatchFile.open(path) as file:
        for day in (0, 60):
            at = Instant(NOON + day * 86400)
            file.take(count([View("a", "wheat", False, 1, at)], {}, no_article), Place(7, "x", 9, 1))
        assert file.place() == Place(7, "x", 9, 1)
        told = file.to_tell(Instant(NOON + 61 * 86400))
    assert [one.body.lessons for one in told] == [{"wheat": LessonWatched(1, 1, 1)}], "nothing of old is left"


def test_a_place_is_kept_with_the_counts_or_not_at_all(tmp_path: Path) -> None:
    with WatchFile.open(tmp_path / "w.sqlite") as file:
        bad = Counted(figures={(NOON, "wheat"): ("x", object())})  # type: ignore[dict-item]
        with pytest.raises(Exception, match=r"."):
            file.take(bad, Place(1, "a", 10))
        assert file.place() == Place()
        assert not list(itertools.chain(file.to_tell(Instant(NOON + 9 * HOUR_S))))
