"""The service's processes load no more than they use: each of them pays for it in memory, all day."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HEAVY = ("tuf", "cryptography", "boto3", "rich", "prometheus_client", "jinja2")


@pytest.mark.parametrize(
    ("loading", "allowed"),
    [
        ("from edge.serve import worker", {"prometheus_client", "jinja2"}),
        ("from edge.serve import filler; from edge.sync.foreground import fill_parts", set()),
        ("from edge import app; from edge.serve import keeper", {"tuf", "cryptography"}),
    ],
)
def test_a_process_loads_what_it_uses(loading: str, allowed: set[str]) -> None:
    program = (
        "import sys; from tools.lean import leave_out; leave_out(); "
        + loading
        + "; from tools.logs import configure_logs;"
        f"print(*(name for name in {_HEAVY!r} if sys.modules.get(name)))"
    )
    done = subprocess.run((sys.executable, "-P", "-c", program), capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) <= allowed
