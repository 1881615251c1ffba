"""The simulation's table for people: a row per night, the whole at the end."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from tools.output import Output, show_bytes
from tools.simulate.results import Agreement, Agreements, NightRow, Simulation, Worst

_PLAIN_WIDTH = 200  # in a file or a pipe nobody can widen the window
_HEADINGS = (
    ("夜", "night"),
    ("更新", "new"),
    ("源站流出", "from the origin"),
    ("每不重复字节", "per unique byte"),
    ("市内互传", "in the city"),
    ("点播拉取", "for viewers"),
    ("6 点齐备", "whole by 06:00"),
    ("预计", "promised"),
    ("停机", "off"),
    ("最差的县", "worst county"),
    ("卡顿秒", "stall s"),
    ("撤回到达", "recall reached"),
)


def simulation_table(result: Simulation, output: Output) -> Table:
    """The whole table."""
    pick = output.pick
    title = pick(
        f"模拟：{result.edges} 台边缘服务器，{result.nights} 夜，种子 {result.seed}，"
        + ("市内互助开启" if result.swarm else "市内互助关闭"),
        f"Simulation: {result.edges} edges, {result.nights} nights, seed {result.seed}, "
        + ("city swarm on" if result.swarm else "city swarm off"),
    )
    table = Table(title=title)
    for zh, en in _HEADINGS:
        is_text = en == "worst county"
        table.add_column(pick(zh, en), justify="left" if is_text else "right", overflow="fold")
    for row in result.rows:
        table.add_row(*_cells(row, output))
    table.add_section()
    table.add_row(
        pick("合计", "total"),
        str(sum(row.published for row in result.rows)),
        show_bytes(result.origin_bytes),
        f"{result.origin_bytes_per_unique_byte:.2f}",
        show_bytes(result.city_bytes),
        show_bytes(result.viewer_bytes),
        f"{result.completion:.1%}",
        "",
        str(sum(row.off for row in result.rows)),
        _worst(result.worst, output),
        f"{result.stall_s:.0f}",
        _span(result.recall_s),
    )
    return table


def print_simulation(result: Simulation, output: Output) -> None:
    """JSON, or the table."""
    output.emit(result)
    if not output.as_json:
        _console().print(simulation_table(result, output))


def print_agreements(found: Agreements, output: Output) -> None:
    """JSON, or measurement and model side by side, a table a run."""
    output.emit(found)
    if not output.as_json:
        for one in found.runs:
            _console().print(_agreement_table(one, output))


def _agreement_table(found: Agreement, output: Output) -> Table:
    pick = output.pick
    how = pick("互助", "helping each other") if found.swarm else pick("各自取", "each alone")
    table = Table(
        title=pick(
            f"实测与模型：同市 {found.edges} 台边缘服务器（{how}），不重复内容 {show_bytes(found.unique_bytes)}",
            f"Measurement and model: {found.edges} edges of a city, {how}, {show_bytes(found.unique_bytes)} of content",
        )
    )
    table.add_column("")
    for zh, en in (
        ("源站流出", "from the origin"),
        ("每不重复字节", "per unique byte"),
        ("全部取齐秒", "all whole, s"),
    ):
        table.add_column(pick(zh, en), justify="right")
    for zh, en, figures in (("实测", "measured", found.real), ("模型", "model", found.model)):
        table.add_row(
            pick(zh, en),
            show_bytes(figures.origin_bytes),
            f"{figures.origin_bytes_per_unique_byte:.2f}",
            f"{figures.seconds:.1f}",
        )
    table.add_row(pick("模型 ÷ 实测", "model ÷ measured"), f"{found.bytes_ratio:.3f}", "", f"{found.seconds_ratio:.3f}")
    return table


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)


def _cells(row: NightRow, output: Output) -> tuple[str, ...]:
    return (
        str(row.night),
        str(row.published),
        show_bytes(row.origin_bytes),
        f"{row.origin_bytes_per_unique_byte:.2f}",
        show_bytes(row.city_bytes),
        show_bytes(row.viewer_bytes),
        f"{row.complete}/{row.edges}",
        str(row.promised),
        str(row.off),
        _worst(row.worst, output),
        f"{row.stall_s:.0f}",
        _span(row.recall_s),
    )


def _worst(worst: Worst, output: Output) -> str:
    if not worst.region:
        return "–"
    size = show_bytes(worst.missing_bytes)
    return output.pick(f"{worst.name} 缺 {size}：{worst.reason_zh}", f"{worst.name} lacks {size}: {worst.reason}")


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
