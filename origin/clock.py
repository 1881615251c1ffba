"""The one place where the origin reads the wall clock; everything else is handed a `Clock`."""

from __future__ import annotations

import time
from collections.abc import Callable

from manifests.instants import Instant

Clock = Callable[[], Instant]


def system_clock() -> Instant:
    """Now, in whole UTC epoch seconds."""
    return Instant(int(time.time()))
