"""The Grafana dashboards: importable, and every query asks for what the programs really tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edge.metric_table
import origin.metrics
import tools

FOLDER = Path(tools.__file__).parent / "grafana"
SIDES = ("edge", "origin")
# What PromQL and Prometheus add of their own.
FUNCTIONS = {"sum", "max", "min", "by", "rate", "increase", "time", "histogram_quantile"}
OF_PROMETHEUS = {"instance", "job"}
TOKEN = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SELECTOR = re.compile(r"(yuanjiao_[a-z0-9_]+)\{([^}]*)\}")
RANGE = re.compile(r"\[(?:\$__rate_interval|[0-9]+[smhd])\]")


def board_of(side: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{side}.json").read_text("utf-8"))
    return found


def series_of(side: str) -> dict[str, set[str]]:
    """Every series of a side with its labels, as Prometheus scrapes them."""
    if side == "origin":
        return {row.name: set(row.labels) for row in origin.metrics.METRICS}
    found: dict[str, set[str]] = {}
    for row in edge.metric_table.METRICS:
        if row.kind == "histogram":
            found |= {f"{row.name}_bucket": {"le"}, f"{row.name}_sum": set(), f"{row.name}_count": set()}
        else:
            found[row.name] = {row.label} if row.label else set()
    return found


def expressions(board: dict[str, Any]) -> Iterator[str]:
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def faults_of(expr: str, series: dict[str, set[str]]) -> list[str]:
    """Names and labels in a query that do not exist."""
    faults = []
    names = [name for name, _ in SELECTOR.findall(expr)]
    allowed = {"instance"}.union(*(series.get(name, set()) for name in names)) | OF_PROMETHEUS
    faults += [f"no metric {name}" for name in names if name not in series]
    for name, body in SELECTOR.findall(expr):
        labels = re.findall(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"', body)
        faults += [
            f"{name} has no label {label}" for label in labels if label not in series.get(name, set()) | {"instance"}
        ]
    bare = RANGE.sub("", SELECTOR.sub("", expr))
    for group in re.findall(r"\bby \(([^)]*)\)", bare):
        faults += [f"nothing to group by {label}" for label in re.split(r",\s*", group) if label not in allowed]
    bare = re.sub(r"\bby \([^)]*\)", "", bare)
    faults += [f"unknown word {word}" for word in TOKEN.findall(bare) if word not in FUNCTIONS]
    if expr.count("(") != expr.count(")"):
        faults.append("brackets")
    return faults


@pytest.mark.parametrize("side", SIDES)
def test_queries_ask_for_what_there_is(side: str) -> None:
    found = {expr: faults_of(expr, series_of(side)) for expr in expressions(board_of(side))}
    assert {expr: faults for expr, faults in found.items() if faults} == {}


@pytest.mark.parametrize("side", SIDES)
def test_every_metric_is_on_a_panel(side: str) -> None:
    shown = " ".join(expressions(board_of(side)))
    lacking = [name for name in series_of(side) if name not in shown]
    allowed = {name for name in lacking if name.endswith(("_sum", "_count"))} | {"yuanjiao_edge_requests_total"}
    assert set(lacking) <= allowed


@pytest.mark.parametrize("side", SIDES)
def test_legends_use_labels_that_the_query_leaves(side: str) -> None:
    for panel in board_of(side)["panels"]:
        for target in panel.get("targets", ()):
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
                is_plain = not re.search(r"\b(?:sum|max|min)\b", target["expr"])
                assert any(label in group for group in grouped) or (is_plain and label == "instance"), panel["title"]


@pytest.mark.parametrize("side", SIDES)
def test_it_can_be_imported(side: str) -> None:
    """What Grafana's import asks: inputs that the panels use, required plugins, unique ids, panels on the grid."""
    board = board_of(side)
    assert (board["id"], board["uid"]) == (None, f"yuanjiao-{side}")
    assert board["schemaVersion"] >= 36
    inputs = {f"${{{one['name']}}}" for one in board["__inputs"] if one["type"] == "datasource"}
    required = {one["id"] for one in board["__requires"]}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["type"] == "row" or panel["type"] in required
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"]
            assert {panel["datasource"]["uid"], *(one["datasource"]["uid"] for one in panel["targets"])} <= inputs
            assert len({one["refId"] for one in panel["targets"]}) == len(panel["targets"])
    variables = {one["name"] for one in board["templating"]["list"]}
    used = set(re.findall(r"\$([a-z]\w*)", " ".join(expressions(board))))
    assert used == variables == {"instance"}


@pytest.mark.parametrize("side", SIDES)
def test_titles_are_chinese_first_and_english_second(side: str) -> None:
    board = board_of(side)
    titles = [board["title"], *(panel["title"] for panel in board["panels"])]
    assert [title for title in titles if not re.match(r"[\u4e00-\u9fff][^A-Za-z]* [A-Z][a-z]", title)] == []


@pytest.mark.parametrize(
    "expr",
    [
        'rate(yuanjiao_edge_request_total{instance=~"$instance"}[$__rate_interval])',
        'sum by (outcome) (yuanjiao_edge_requests_total{instance=~"$instance"})',
        'yuanjiao_edge_answers_total{cause="idle"}',
        'sum(rate(yuanjiao_edge_requests_total{instance=~"$instance"}[$__rate_interval])',
        'yuanjiao_edge_answer_begin_seconds{instance=~"$instance"}',
        'average(yuanjiao_edge_requests_total{instance=~"$instance"})',
    ],
)
def test_a_wrong_query_is_found(expr: str) -> None:
    assert faults_of(expr, series_of("edge"))
