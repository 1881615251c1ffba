"""The wheel: every file of the four packages is in it, data files too, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import house

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=150)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def _sources() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for package in house.PACKAGES
        for path in house.files_of(ROOT / package)
        if path.suffix != ".pyc" and not path.name.startswith(".")
    }


def test_every_source_and_data_file_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name and "/vendor/" not in name}
    assert inside == _sources()
    assert {Path(name).suffix for name in inside} > {".py", ".md", ".js", ".css"}


def test_the_command_and_the_licence_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    info = {name.split(".dist-info/")[1]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert b"yuanjiao = tools.cli:main" in wheel.read(info["entry_points.txt"])
    assert b"Apache License" in wheel.read(info["licenses/LICENSE"])


def test_browser_parts_are_in_the_wheel_with_their_licences(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if "/static/vendor/" in name}
    if not inside:
        pytest.skip("built without npm, or it could not fetch: portal and console do without")
    portal, console = "edge/serve/static/vendor", "origin/web/console/static/vendor"
    wanted = {
        portal: {"hls.light.min.js", "hls.LICENSE.txt"},
        console: {
            *("echarts.min.js", "echarts.LICENSE.txt", "echarts.NOTICE.txt"),
            *("quill.js", "quill.snow.css", "quill.LICENSE.txt", "tus.min.js", "tus.LICENSE.txt"),
        },
    }
    assert inside == {f"{at}/{name}" for at, names in wanted.items() for name in (*names, "versions.json")}
    assert b"Apache License" in wheel.read(f"{portal}/hls.LICENSE.txt")
    pinned = json.loads((ROOT / "web" / "package.json").read_text("utf-8"))["dependencies"]
    told = [json.loads(wheel.read(f"{at}/versions.json")) for at in wanted]
    assert told[0] | told[1] == pinned


def test_the_lock_names_no_address() -> None:
    lock = (ROOT / "web" / "package-lock.json").read_text("utf-8")
    assert "://" not in lock
    assert "resolved" not in lock


def test_a_build_without_npm_installs_all_the_same(tmp_path: Path) -> None:
    copy = tmp_path / "tree"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "vendor", "tests", "build", "dist", "__pycache__"))
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / "out")]
    bare = {"PATH": str(tmp_path / "empty"), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=copy, env=bare, capture_output=True, text=True, timeout=150, check=True)
    assert "npm is not installed" in done.stdout + done.stderr
    (path,) = (tmp_path / "out").glob("*.whl")
    assert not [name for name in zipfile.ZipFile(path).namelist() if "/vendor/" in name]
    strict = subprocess.run(
        command, cwd=copy, env={**bare, "YUANJIAO_REQUIRE_WEB": "1"}, capture_output=True, timeout=150, check=False
    )
    assert strict.returncode != 0
