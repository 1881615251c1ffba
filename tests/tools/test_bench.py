"""The benchmarks run: small, once, for the sake of the figures' way into the table. The figures mean nothing here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from manifests.errors import ConfigurationError
from tools.bench.measure import run_measured
from tools.bench.table import Row, markdown

ROOT = Path(__file__).resolve().parents[2]


# One group a test: each has its own deadline on a busy machine.
@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("publish", ["publish 1.0 MiB", "memory of publishing"]),
        ("sync", ["cold sync", "nothing new", "10 lessons changed"]),
        ("patch", ["intro trimmed"]),
        ("scrub", ["scrub of 1.0 MiB"]),
        ("planner", ["plan of"]),
        ("fill", ["cold fill"]),
    ],
)
def test_a_small_run_fills_the_table(tmp_path: Path, group: str, words: list[str]) -> None:
    out = tmp_path / "table.md"
    sizes = ("--size", "1MiB", "--rounds", "1", "--dir", str(tmp_path), "--markdown", str(out))
    command = (sys.executable, "-m", "tools.bench", "--only", group, *sizes)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    table = out.read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) > len(words), "a head and the figures"
    assert all(any(word in row[0] for row in rows) for word in words)
    assert all(row[1] for row in rows)
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]


def test_measuring_tells_time_processor_and_memory() -> None:
    code = "import time; x = bytearray(64 << 20); sum(range(10**6)); time.sleep(0.3); print('done')"
    found = run_measured((sys.executable, "-c", code))
    assert found.out == b"done\n"
    assert 0.3 <= found.seconds < 30
    assert 0 < found.cpu_s < found.seconds + 1
    assert 64 << 20 <= found.peak_bytes < 200 << 20


def test_a_failed_run_gives_no_figure() -> None:
    with pytest.raises(ConfigurationError):
        run_measured((sys.executable, "-c", "import sys; sys.exit(3)"))


def test_markdown_escapes_its_own_sign() -> None:
    text = markdown([Row("a", "1", "curl | sha256sum 2", 0.512345, "≥ 1")])
    assert text.splitlines()[2] == r"| a | 1 | curl \| sha256sum 2 | 0.512 | ≥ 1 |  |"
