"""The rules of the house, read off the syntax trees and the documents. Each rule is also tried on a bad tree."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from support import house

from manifests.settings import rows_of
from tools.reference import BEGIN, END, families, reference

ROOT = Path(__file__).resolve().parent.parent
TREE = house.modules_of(ROOT)


def test_imports_go_down_only() -> None:
    assert house.import_faults(TREE) == []


def test_every_folder_is_a_room() -> None:
    assert house.homeless(TREE) == []


def test_pure_rooms_are_pure() -> None:
    assert house.purity_faults(TREE) == []


def test_no_file_is_too_long() -> None:
    assert house.length_faults(ROOT) == []


def test_everything_public_has_a_docstring() -> None:
    assert house.docstring_faults(TREE) == []


def test_no_unfinished_words_machine_paths_or_registries() -> None:
    assert house.word_faults(ROOT) == []


def test_broad_excepts_and_noqas_carry_reasons() -> None:
    assert house.reason_faults(TREE) == []


def test_portal_script_is_es5() -> None:
    scripts = [path for path in house.files_of(ROOT / "edge" / "serve") if path.suffix == ".js"]
    assert scripts, "the portal has no script"
    assert [fault for script in scripts for fault in house.es5_faults(script)] == []


@pytest.mark.parametrize("side", ["origin", "edge"])
def test_readme_lists_every_setting(side: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = rows_of(importlib.import_module(f"{side}.settings").Settings)
    assert rows
    lacking = [row.name for row in rows if f"`{row.name}`" not in readme]
    assert lacking == []
    assert [row.name for row in rows if not (row.help_en and row.help_zh)] == []


@pytest.mark.parametrize("side", ["origin", "edge"])
def test_readme_lists_every_metric(side: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    metrics = importlib.import_module({"origin": "origin.metrics", "edge": "edge.metric_table"}[side]).METRICS
    assert metrics
    assert [metric.name for metric in metrics if f"`{metric.name}`" not in readme] == []


def test_readme_lists_every_exit_code() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    codes = {0, 130, *(family.exit_code for family in families())}
    assert [code for code in sorted(codes) if not re.search(rf"^\| *{code} *\|", readme, re.MULTILINE)] == []


def test_readme_holds_the_reference_word_for_word() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    held = readme.partition(BEGIN)[2].partition(END)[0].strip()
    assert held == reference().strip(), "run `python -m tools.reference` and put its text between the two markers"


def _tree(tmp_path: Path, files: dict[str, str]) -> list[house.Module]:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return house.modules_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("edge/sync/runner.py", "from origin.publish import keys\n"),
        ("origin/app.py", "import edge.store.blobs\n"),
        ("manifests/model.py", "from edge import app\n"),
        ("edge/app.py", "def f():\n    from tools import cli\n"),
        ("edge/store/blobs.py", "from edge.sync.planner import plan_sync\n"),
        ("edge/store/blobs.py", "from ..serve import pages\n"),
        ("origin/storage/local.py", "from origin.database.tables import blobs\n"),
        ("origin/clock.py", "from origin.publish.keys import load\n"),
    ],
)
def test_an_import_that_goes_up_is_found(tmp_path: Path, name: str, text: str) -> None:
    assert len(house.import_faults(_tree(tmp_path, {name: text}))) == 1


def test_imports_that_go_down_are_not_found(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        {
            "tools/cli.py": "from origin import app\nfrom edge.app import sync\n",
            "edge/app.py": "from edge.store.blobs import BlobStore\nfrom edge.clock import system_clock\n",
            "edge/sync/runner.py": "from edge.store import blobs\nfrom . import planner\nfrom manifests import names\n",
            "edge/settings.py": "from manifests.settings import row\n",
        },
    )
    assert house.import_faults(tree) == []
    assert house.homeless(tree) == []


def test_a_folder_that_is_no_room_is_found(tmp_path: Path) -> None:
    assert len(house.homeless(_tree(tmp_path, {"edge/helpers/x.py": '"""X."""\n'}))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import time\n",
        "from os import path\n",
        "import urllib.request\n",
        "from pathlib import Path\n",
        "import structlog\n",
        "def f(p):\n    return open(p)\n",
        "from datetime import UTC, datetime\nx = datetime.now(UTC)\n",
        "import datetime\nx = datetime.date.today()\n",
        "async def f():\n    return 1\n",
    ],
)
@pytest.mark.parametrize("name", ["manifests/model.py", "edge/sync/planner.py", "origin/stations/workdays.py"])
def test_an_impurity_is_found(tmp_path: Path, name: str, text: str) -> None:
    assert house.purity_faults(_tree(tmp_path, {name: text}))


def test_purity_is_asked_of_pure_rooms_only(tmp_path: Path) -> None:
    tree = _tree(tmp_path, {"edge/sync/runner.py": "import time\n", "manifests/x.py": "from datetime import UTC\n"})
    assert house.purity_faults(tree) == []


def test_long_files_and_missing_docstrings_are_found(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        {
            "tools/long.py": '"""L."""\n' + "x = 1\n" * 400,
            "edge/app.py": "def f():\n    1\nclass C:\n    def m(self):\n        1\n    def _p(self):\n        1\n",
        },
    )
    assert len(house.length_faults(tmp_path)) == 1
    assert len(house.docstring_faults(tree)) == 4


@pytest.mark.parametrize(
    "line",
    [
        "# TO" + "DO later",
        "raise NotImplemented" + "Error",
        "p = '/wo" + "rk/main'",
        "u = 'https://py" + "pi.org/simple'",
    ],
)
def test_forbidden_words_are_found(tmp_path: Path, line: str) -> None:
    _tree(tmp_path, {"edge/app.py": f"{line}\n"})
    assert len(house.word_faults(tmp_path)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    f()\nexcept Exception:\n    pass\n",
        "try:\n    f()\nexcept:\n    pass\n",
        "x = 1  # no" + "qa: F401\n",
    ],
)
def test_a_missing_reason_is_found(tmp_path: Path, text: str) -> None:
    assert len(house.reason_faults(_tree(tmp_path, {"edge/app.py": text}))) == 1


def test_a_given_reason_is_enough(tmp_path: Path) -> None:
    text = (
        "try:\n    f()\nexcept Exception:  # the worker's own errors are already logged\n    x = 1  # no"
        "qa: S101 - why\n"
    )
    assert house.reason_faults(_tree(tmp_path, {"edge/app.py": text})) == []


@pytest.mark.parametrize(
    "code",
    [
        "let a = 1;",
        "var f = () => 1;",
        "var s = `x`;",
        "fetch('/x');",
        "new Promise(f);",
        "for (var x of y) {}",
        "a?.b;",
    ],
)
def test_newer_javascript_is_found(tmp_path: Path, code: str) -> None:
    script = tmp_path / "a.js"
    script.write_text(f"'use strict';\n{code}\n", encoding="utf-8")
    faults = house.es5_faults(script)
    assert faults
    assert ":2: " in faults[0]


def test_old_javascript_is_not_found(tmp_path: Path) -> None:
    script = tmp_path / "a.js"
    text = (
        "// let x => `1`\nvar a = 'const b => 1', r = /`[/]=>/g; /* class A */ var letter = a ? .5 : 1; x.fetch(1);\n"
    )
    script.write_text(text, encoding="utf-8")
    assert house.es5_faults(script) == []
