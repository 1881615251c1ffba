"""A network of its own whose packets the kernel loses: a namespace with nothing in it but its loopback."""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000


class Network:
    """One namespace, by name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def inside(self, *command: str) -> tuple[str, ...]:
        """The command that runs another one in it."""
        return ("ip", "netns", "exec", self.name, *command)

    def listen(self) -> socket.socket:
        """A socket of this process that listens in there: a socket stays in the network that it was made in."""
        made: list[socket.socket] = []
        libc = ctypes.CDLL(None, use_errno=True)

        def make() -> None:
            # The kernel moves this thread alone, which ends with it.
            with Path("/var/run/netns", self.name).open("rb") as file:
                if libc.setns(file.fileno(), _CLONE_NEWNET) == 0:
                    made.append(socket.create_server(("127.0.0.1", 0)))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if not made:
            pytest.skip("this process may not enter the network that it made")
        return made[0]

    def lost(self) -> int:
        """Packets that were dropped so far."""
        rules = subprocess.run(
            self.inside("iptables", "-nvxL", "INPUT"), capture_output=True, text=True, timeout=10, check=True
        ).stdout
        return sum(int(line.split()[0]) for line in rules.splitlines() if "DROP" in line.split()[2:3])


@contextmanager
def lossy_network(loss: float, rate: str) -> Iterator[Network]:
    """Make a network that carries `rate` (such as "16mbit") and loses packets; skips where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("a network of its own needs root")
    network = Network(f"lossy-{secrets.token_hex(4)}")
    lines = (
        # Packets of a real line's size, not the 64 KiB of a loopback: each is lost on its own.
        "ip link set lo mtu 1500 gso_max_segs 1 up",
        f"tc qdisc add dev lo root tbf rate {rate} burst 64k latency 400ms",
        f"iptables -A INPUT -m statistic --mode random --probability {loss} -j DROP",
    )
    steps = (("ip", "netns", "add", network.name), *(network.inside(*line.split()) for line in lines))
    try:
        for step in steps:
            try:
                done = subprocess.run(step, capture_output=True, text=True, timeout=10)
            except OSError as error:
                pytest.skip(f"no lossy network here: {error}")
            if done.returncode != 0:
                pytest.skip(f"no lossy network here: {' '.join(step)}: {done.stderr.strip()}")
        yield network
    finally:
        subprocess.run(("ip", "netns", "del", network.name), capture_output=True, timeout=10)
