"""Build hook: fetch the browser parts that `web/package-lock.json` pins, and copy what the portal loads.

Without npm the program installs all the same, and says at its start and in `doctor` what it lacks; with
YUANJIAO_REQUIRE_WEB=1 the build fails instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DEADLINE_S = 120
# What is copied: the package, the file in it, and its name here.
PARTS = (
    ("hls.js", "dist/hls.light.min.js", "hls.light.min.js"),
    ("hls.js", "LICENSE", "hls.LICENSE.txt"),
)


class WebParts(BuildHookInterface[Any]):
    """Runs for wheels, editable ones too."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Bring the parts into the source tree, from where hatchling packs them as artifacts."""
        if self.target_name != "wheel":
            return
        web, vendor = Path(self.root, "web"), Path(self.root, "edge", "serve", "static", "vendor")
        stamp = hashlib.sha256((web / "package-lock.json").read_bytes()).hexdigest()
        if _read(vendor / ".stamp") == stamp:
            return
        try:
            _bring(web, vendor, stamp)
        except (OSError, subprocess.SubprocessError) as error:
            if os.environ.get("YUANJIAO_REQUIRE_WEB") == "1":
                raise RuntimeError(f"the browser parts cannot be fetched: {error}") from error
            self.app.display_warning(f"built without hls.js, the portal plays MP4 and what browsers know: {error}")


def _bring(web: Path, vendor: Path, stamp: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    with tempfile.TemporaryDirectory() as work:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(web / name, work)
        # The lock holds the digest of each package: what comes is what was looked at, or nothing.
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        subprocess.run(command, cwd=work, check=True, capture_output=True, timeout=DEADLINE_S)
        modules = Path(work, "node_modules")
        vendor.mkdir(exist_ok=True)
        versions = {}
        for package, source, name in PARTS:
            versions[package] = json.loads((modules / package / "package.json").read_text("utf-8"))["version"]
            _put(vendor / name, (modules / package / source).read_bytes())
        _put(vendor / "versions.json", json.dumps(versions, sort_keys=True).encode() + b"\n")
        _put(vendor / ".stamp", stamp.encode())


def _put(path: Path, data: bytes) -> None:
    """By rename, because another build may be reading."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_bytes(data)
    new.replace(path)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""
