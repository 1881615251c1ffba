"""A county's evening: 1,000 terminals, each playing at 2 Mbit/s, beside nginx. Who falls behind, and what it costs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from manifests.errors import ConfigurationError
from tools.bench.measure import Bench
from tools.bench.paced_client import Outcome
from tools.bench.peers import CLIENT_CORE, Target, cpu_s, installed, nginx, on_core, ours, tree
from tools.bench.serve import make_edge
from tools.bench.table import Row, median
from tools.output import show_bytes

TERMINALS = 1000
RATE_BYTES_PER_S = 250_000
SECONDS = 30
ROUNDS = 2
# Of its rate, a terminal gets at least so much in each second.
LEAST = 0.95


@dataclass(frozen=True, slots=True)
class Evening:
    """How it went; memory is that of all processes of the server at the end."""

    outcome: Outcome
    cpu_s: float
    resident_bytes: int


def run(bench: Bench) -> list[Row]:
    """Measure."""
    return asyncio.run(_run(bench))


async def _run(bench: Bench) -> list[Row]:
    root = bench.fresh("terminals-edge")
    paths = await asyncio.to_thread(make_edge, root, bench)
    found: dict[str, list[Evening]] = {}
    async with AsyncExitStack() as stack:
        targets = [await stack.enter_async_context(ours(root, bench.directory / "terminals.log", paths))]
        if "nginx" in installed():
            plain = {kind: f"/{kind}.bin" for kind in paths}
            peer = nginx(bench, bench.directory / "serve-files", plain, nopush=True)
            targets.append(await stack.enter_async_context(peer))
        for _ in range(min(bench.rounds, ROUNDS)):
            for target in targets:
                evening = await asyncio.to_thread(_evening, target, bench.size_bytes)
                found.setdefault(target.name, []).append(evening)
    return _rows(found)


def _evening(target: Target, size: int) -> Evening:
    numbers = (target.port, target.paths["big"], size, TERMINALS, RATE_BYTES_PER_S, SECONDS)
    before = cpu_s(target.pid)
    with on_core(CLIENT_CORE):
        client = subprocess.Popen(
            (sys.executable, "-m", "tools.bench.paced_client", *map(str, numbers)), stdout=subprocess.PIPE
        )
    try:
        line = client.stdout.readline() if client.stdout else b""  # all connections still stand while it is read
        if not line:
            raise ConfigurationError(f"bench: the terminals of {target.name} did not come through")
        spent, resident = cpu_s(target.pid) - before, sum(map(_resident, tree(target.pid)))
    finally:
        client.kill()
        client.wait()
    return Evening(msgspec.json.decode(line, type=Outcome), spent, resident)


def _resident(pid: int) -> int:
    """Resident memory in bytes, a share of each page that others have as well; 0 for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _rows(found: dict[str, list[Evening]]) -> list[Row]:
    mine, peers = found["ours"], found.get("nginx", [])
    what = f"{TERMINALS} terminals at 2 Mbit/s for {SECONDS} s"
    worst = min(one.outcome.worst for one in mine)
    peer_worst = min((one.outcome.worst for one in peers), default=None)
    cpu, peer_cpu = median(one.cpu_s for one in mine), median(one.cpu_s for one in peers) if peers else None
    behind = sum(one.outcome.behind for one in mine)
    gb = median(one.outcome.taken_bytes for one in mine) / 1e9
    resident = max(one.resident_bytes for one in mine)
    peer_resident = max((one.resident_bytes for one in peers), default=0)
    return [
        Row(
            f"{what}: the worst second of any",
            f"{worst:.0%} of its rate, {behind} below {LEAST:.0%}",
            f"nginx {peer_worst:.0%}" if peer_worst is not None else "nginx: not installed",
            worst / peer_worst if peer_worst else None,
            f"none below {LEAST:.0%} after the first second",
            f"a small client of one epoll loop on the other core; seconds with its own lag over 0.1 s left out: "
            f"{sum(one.outcome.unsure for one in mine)}",
        ),
        Row(
            "the same: processor time",
            f"{cpu:.1f} s, {cpu / gb:.2f} s/GB",
            f"nginx {peer_cpu:.1f} s" if peer_cpu else "nginx: not installed",
            cpu / peer_cpu if peer_cpu else None,
            "≤ 1.3 × nginx",
            "all processes of the server",
        ),
        Row(
            "the same: resident memory",
            show_bytes(resident),
            f"nginx {show_bytes(peer_resident)}" if peers else "nginx: not installed",
            None,
            "≤ 150 MiB",
            "supervisor, worker and keeper; what they share is counted once",
        ),
    ]
