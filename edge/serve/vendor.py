"""Scripts of others that the build brings when it can; see `hatch_build.py`."""

from __future__ import annotations

import json
from pathlib import Path

HLS_SCRIPT = "hls.light.min.js"
FOLDER = Path(__file__).parent / "static" / "vendor"


def hls_version() -> str | None:
    """Version of hls.js that is here; None when the build did not bring it."""
    try:
        versions = json.loads((FOLDER / "versions.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return str(versions.get("hls.js", "")) or None if (FOLDER / HLS_SCRIPT).is_file() else None
