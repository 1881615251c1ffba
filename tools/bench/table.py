"""The bench's result: rows of ours beside a peer's, printed for a person and as Markdown for the README."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

_PLAIN_WIDTH = 200
HEADINGS = ("what", "ours", "peer", "ours ÷ peer", "target", "note")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        what: what was measured.
        ours: our figure with its unit, as text.
        peer: the peer's name and figure; empty when there is none.
        ratio: ours over the peer's, higher is better for speeds and lower for bytes; None without a peer.
        target: what the project asks of this figure, as text.
        note: how it was measured, or why a cell is empty.
    """

    what: str
    ours: str
    peer: str
    ratio: float | None
    target: str
    note: str = ""


def print_rows(rows: Sequence[Row], console: Console | None = None) -> None:
    """Print the table for a person."""
    table = Table(title="yuanjiao bench")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading == "ours ÷ peer" else "left", overflow="fold")
    for row in rows:
        table.add_row(*_cells(row))
    # In a file or a pipe nobody can widen the window.
    (console or (Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH))).print(table)


def markdown(rows: Sequence[Row]) -> str:
    """The same table as Markdown, for the README."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---|---|--:|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def median(values: Iterable[float]) -> float:
    """The median; the bench's only summary, because one slow round on a busy machine must not move it."""
    return statistics.median(values)


def show_rate(bytes_per_s: float) -> str:
    """A speed in MiB/s."""
    return f"{bytes_per_s / 1024 / 1024:.0f} MiB/s"


def _cells(row: Row) -> tuple[str, ...]:
    return row.what, row.ours, row.peer, "" if row.ratio is None else f"{row.ratio:.3g}", row.target, row.note
