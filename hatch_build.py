"""Build hook: fetch the browser parts that `web/package-lock.json` pins, and copy what portal and console load.

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
PORTAL, CONSOLE = "edge/serve/static/vendor", "origin/web/console/static/vendor"
# What is copied: where to, the package, the file in it, and its name here.
PARTS = (
    (PORTAL, "hls.js", "dist/hls.light.min.js", "hls.light.min.js"),
    (PORTAL, "hls.js", "LICENSE", "hls.LICENSE.txt"),
    (CONSOLE, "echarts", "dist/echarts.min.js", "echarts.min.js"),
    (CONSOLE, "echarts", "LICENSE", "echarts.LICENSE.txt"),
    (CONSOLE, "echarts", "NOTICE", "echarts.NOTICE.txt"),
    (CONSOLE, "quill", "dist/quill.js", "quill.js"),
    (CONSOLE, "quill", "dist/quill.snow.css", "quill.snow.css"),
    (CONSOLE, "quill", "LICENSE", "quill.LICENSE.txt"),
    (CONSOLE, "tus-js-client", "dist/tus.min.js", "tus.min.js"),
    (CONSOLE, "tus-js-client", "LICENSE", "tus.LICENSE.txt"),
)


class WebParts(BuildHookInterface[Any]):
    """Runs for wheels, editable ones too."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Bring the parts into the source tree, from where hatchling packs them as artifacts."""
        if self.target_name != "wheel":
            return
        root, web = Path(self.root), Path(self.root, "web")
        stamp = hashlib.sha256((web / "package-lock.json").read_bytes() + repr(PARTS).encode()).hexdigest()
        if all(_read(root / folder / ".stamp") == stamp for folder in (PORTAL, CONSOLE)):
            return
        try:
            _bring(root, web, stamp)
        except (OSError, subprocess.SubprocessError) as error:
            if os.environ.get("YUANJIAO_REQUIRE_WEB") == "1":
                raise RuntimeError(f"the browser parts cannot be fetched: {error}") from error
            self.app.display_warning(
                f"built without browser parts; the portal plays MP4, the console has no charts: {error}"
            )


def _bring(root: Path, web: Path, stamp: str) -> None:
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
        for folder in (PORTAL, CONSOLE):
            vendor, versions = root / folder, {}
            vendor.mkdir(exist_ok=True)
            for _, package, source, name in (part for part in PARTS if part[0] == folder):
                told = json.loads((modules / package / "package.json").read_text("utf-8"))
                versions[package] = told["version"]
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
