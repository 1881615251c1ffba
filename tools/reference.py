"""The README's reference tables, written from the declarations: `python -m tools.reference` prints them.

The README holds the printed text word for word between two markers; a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import edge.metric_table
import edge.settings
import origin.metrics
import origin.settings
from manifests.errors import YuanjiaoError
from manifests.settings import Row, rows_of

BEGIN = "<!-- reference: begin (python -m tools.reference) -->"
END = "<!-- reference: end -->"


def reference() -> str:
    """All tables: settings of both sides, metrics of both sides, exit codes."""
    parts = [
        _settings("### Settings 设置： origin.toml", rows_of(origin.settings.Settings)),
        _settings("### Settings 设置： edge.toml", rows_of(edge.settings.Settings)),
        _metrics(
            "### Metrics 指标： origin",
            ((one.name, one.kind, ", ".join(one.labels), one.help) for one in origin.metrics.METRICS),
        ),
        _metrics(
            "### Metrics 指标： edge",
            ((one.name, one.kind, one.label, one.help_en) for one in edge.metric_table.METRICS),
        ),
        _exit_codes(),
    ]
    return "\n\n".join(parts)


def families(parent: type[YuanjiaoError] = YuanjiaoError) -> Iterator[type[YuanjiaoError]]:
    """Every error class of `manifests.errors`, parents first; what a side adds for its HTTP answers is left out."""
    yield parent
    for child in parent.__subclasses__():
        if child.__module__ == YuanjiaoError.__module__:
            yield from families(child)


def _settings(title: str, rows: Iterable[Row]) -> str:
    lines = [title, "", "| setting | default | unit | meaning |", "|---|---|---|---|"]
    for row in rows:
        default = repr(row.default) if row.default not in ("", ()) else "(empty)"
        lines.append(f"| `{row.name}` | {default} | {row.unit} | {row.help_en} {row.help_zh} |")
    return "\n".join(lines)


def _metrics(title: str, rows: Iterable[tuple[str, str, str, str]]) -> str:
    lines = [title, "", "| metric | kind | labels | definition |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {kind} | {labels} | {text} |" for name, kind, labels, text in rows]
    return "\n".join(lines)


def _exit_codes() -> str:
    lines = ["### Exit codes 退出码", "", "| code | meaning |", "|---|---|", "| 0 | done 完成 |"]
    ordered = sorted(set(families()), key=lambda one: (one.exit_code, one.__name__))
    for code, group in groupby(ordered, key=lambda one: one.exit_code):
        names = dict.fromkeys(f"{one.family} {one.family_zh}" for one in group)
        lines.append(f"| {code} | {'; '.join(names)} |")
    lines.append("| 130 | ended by Ctrl-C 已被中断 |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(reference())
