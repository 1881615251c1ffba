"""The wheel: every file of the four packages is in it, data files too, and nothing else."""

from __future__ import annotations

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
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
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
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == _sources()
    assert {Path(name).suffix for name in inside} > {".py", ".md", ".js", ".css"}


def test_the_command_and_the_licence_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    info = {name.split(".dist-info/")[1]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert b"yuanjiao = tools.cli:main" in wheel.read(info["entry_points.txt"])
    assert b"Apache License" in wheel.read(info["licenses/LICENSE"])
