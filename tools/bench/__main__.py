"""`python -m tools.bench`: run the benchmarks, print the table, write it as Markdown."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click

from tools.bench.measure import Bench
from tools.bench.table import Row, markdown, print_rows
from tools.logs import QUIET, configure_logs

GROUPS = (
    *("publish", "sync", "patch", "serve", "terminals", "scrub"),
    *("planner", "fill", "cold", "night", "city", "eviction"),
)
_UNITS = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def parse_size(_ctx: click.Context, _param: click.Parameter, text: str) -> int:
    """Read `8MiB` or `1GiB`."""
    digits = text.rstrip("BbIiKkMmGg")
    unit = text[len(digits) :].upper()
    if not digits.isdigit() or unit not in _UNITS:
        raise click.BadParameter(f"{text!r} is no size such as 8MiB or 1GiB")
    return int(digits) * _UNITS[unit]


@click.command()
@click.option("--only", multiple=True, type=click.Choice(GROUPS), help="Run these groups only.")
@click.option("--rounds", type=click.IntRange(1, 99), default=5, show_default=True, help="Medians are of so many.")
@click.option("--size", default="1GiB", show_default=True, callback=parse_size, help="Size of the big file.")
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Scratch space.")
@click.option("--markdown", "out", type=click.Path(path_type=Path), help="Also write the table to this file.")
def main(only: tuple[str, ...], rounds: int, size: int, directory: Path | None, out: Path | None) -> None:
    """Measure our figures beside those of the tools that people would use instead, in one run."""
    configure_logs(level=QUIET)
    scratch = Path(tempfile.mkdtemp(prefix="yuanjiao-bench-", dir=directory))
    scratch.chmod(0o755)  # nginx, as a peer, gives up root's rights and must read it still
    try:
        rows = _measure(only or GROUPS, Bench(scratch, rounds, size))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print_rows(rows)
    text = f"{markdown(rows)}\n{_machine()}, {rounds} rounds.\n"
    if out is None:
        click.echo(text)
    else:
        out.write_text(text, encoding="utf-8")


def _measure(groups: tuple[str, ...], bench: Bench) -> list[Row]:
    rows: list[Row] = []
    for name in groups:
        click.echo(f"bench: {name} …", err=True)
        run: Callable[[Bench], list[Row]] = import_module(f"tools.bench.{name}").run
        rows += run(bench)
    return rows


def _machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")), platform.machine()
    )
    return f"Measured with Python {platform.python_version()} on {os.cpu_count()} × {model}"


def _cpu_lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    main()
