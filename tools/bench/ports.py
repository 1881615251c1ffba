"""Ports for peers: a free one, and waiting until somebody listens."""

from __future__ import annotations

import asyncio
import socket
import time

from manifests.errors import ConfigurationError

READY_S = 30.0


def free_port() -> int:
    """A port that nobody listened on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def wait_for(port: int) -> None:
    """Wait until somebody listens.

    Raises:
        ConfigurationError: nobody does in time.
    """
    ends = time.monotonic() + READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError as error:
            if time.monotonic() > ends:
                raise ConfigurationError(f"bench: the peer at port {port} does not come up") from error
            await asyncio.sleep(0.05)
        else:
            return
