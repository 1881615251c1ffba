"""`yuanjiao doctor DIR`: look at an origin or an edge without changing it, say what is wrong and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from manifests.errors import ConfigurationError
from manifests.instants import Instant
from tools.doctor_model import Finding, Level, verdict, verdict_error
from tools.output import Output

_SIGNS = {Level.OK: "✓", Level.WARN: "!", Level.FAIL: "✗"}


@dataclass(frozen=True, slots=True)
class Examination:
    """All findings of one run."""

    kind: str
    directory: Path
    findings: tuple[Finding, ...]

    @property
    def error(self) -> Exception | None:
        """What the process ends with; None when nothing failed."""
        return verdict_error(self.findings)


def examine(root: Path, env: Mapping[str, str], clock: Callable[[], Instant]) -> Examination:
    """Look at everything once.

    Raises:
        ConfigurationError: caller's mistake; the directory is neither an origin's nor an edge's.
    """
    if (root / "origin.toml").exists():
        from tools.doctor_origin import check_origin

        return Examination("origin", root, tuple(asyncio.run(check_origin(root, env, clock()))))
    if (root / "edge.toml").exists():
        from tools.doctor_edge import check_edge

        return Examination("edge", root, tuple(asyncio.run(check_edge(root, env, clock()))))
    raise ConfigurationError(
        f"{root} holds neither an origin (origin.toml) nor an edge (edge.toml)",
        zh=f"{root} 既不是源站目录（origin.toml）也不是边缘服务器目录（edge.toml）",
        hint="name the directory that `origin init` or `edge init` made",
        hint_zh="请指定由 `origin init` 或 `edge init` 建立的目录",
    )


def print_examination(examination: Examination, output: Output) -> None:
    """Print all findings: one JSON object, or a line each with the remedy below it."""
    findings = examination.findings
    output.emit(
        {
            "dir": str(examination.directory),
            "kind": examination.kind,
            "verdict": verdict(findings),
            "findings": [asdict(finding) for finding in findings],
        }
    )
    for finding in findings:
        output.say(
            f"{_SIGNS[finding.level]} {finding.id}：{finding.what_zh}",
            f"{_SIGNS[finding.level]} {finding.id}: {finding.what}",
        )
        if finding.remedy:
            output.say(f"    → {finding.remedy_zh}", f"    → {finding.remedy}")
    output.say(*_summary(findings))


def _summary(findings: Sequence[Finding]) -> tuple[str, str]:
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    ok, warn, fail = counts[Level.OK], counts[Level.WARN], counts[Level.FAIL]
    return f"正常 {ok} 项，提醒 {warn} 项，故障 {fail} 项", f"{ok} ok, {warn} warnings, {fail} failures"
