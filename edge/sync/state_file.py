"""The last verified state as a file. Apart from `trust`, so that whoever only reads needs no cryptography in memory."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from edge.sync.freshness import TrustState

STATE_FILE = "state.json"

_log = structlog.get_logger(__name__)


def load_state(directory: Path) -> TrustState | None:
    """Read the last verified state; None when there is none, or when it is damaged (it will be verified anew)."""
    try:
        return msgspec.json.decode((directory / STATE_FILE).read_bytes(), type=TrustState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        _log.warning("trust state is damaged; verifying from the bundle's root again", reason=str(error))
        return None
