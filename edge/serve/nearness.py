"""Congestion control by how near a client is.

Pacing, as BBR does it, is for lines whose bottleneck is somewhere on the way. To a terminal in the same building it is
a timer per packet and nothing else: on one core, 1 MiB ranges over loopback went at 1,630 a second under BBR with
0.28 ms of processor each, and at 3,880 with 0.10 ms under CUBIC or Reno. Who is far keeps what the system is set to.

A connection must not begin under BBR and be changed: what paces it stays on. So the listening socket has the near
one's, and a connection whose handshake took longer is given the system's before its first byte.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

# A round trip within a county town's own network is below this; one over a provincial line is above it.
NEAR_S = 0.002

# Where tcpi_rtt (microseconds) is within struct tcp_info (linux/tcp.h); the kernel never moves a field.
_RTT = struct.Struct("=68xI")
_NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class Congestion:
    """What the two kinds of clients get.

    Attributes:
        near, far: names as the kernel knows them.
    """

    near: str
    far: str

    def settle(self, connection: socket.socket) -> None:
        """Give a connection that was just accepted what it is to have; a kernel that refuses leaves it as it is."""
        try:
            if round_trip_s(connection) >= NEAR_S:
                _give(connection, self.far)
        except OSError:  # it is gone already, or is no TCP connection
            return


def choose_congestion(listener: socket.socket, near: str) -> Congestion | None:
    """Set up a listening socket; its connections are then to be settled, unless None comes back.

    Args:
        listener: no connection was accepted from it yet.
        near: for near clients; empty for none other than the system's. Where the system does not let this process have
            it, Reno is tried, which every system has.
    """
    try:
        far = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _NAME_BYTES).rstrip(b"\0").decode("ascii")
    except OSError:
        return None
    for name in (near, "reno") if near else ():
        if name == far:
            return None
        try:
            _give(listener, name)
        except OSError:
            continue
        return Congestion(name, far)
    return None


def round_trip_s(connection: socket.socket) -> float:
    """The round trip as the kernel measured it, in seconds; after the handshake, that of the handshake.

    Raises:
        OSError: environment; no TCP connection, or gone.
    """
    found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT.size)
    return float(_RTT.unpack(found)[0]) / 1e6


def _give(connection: socket.socket, name: str) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode("ascii"))
