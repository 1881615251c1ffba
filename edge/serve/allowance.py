"""What one client address may ask for: requests from a bucket that refills, and so many connections.

A classroom, or a village, stands behind one address (NAT), so the allowance is for many terminals at once. IPv6 hands
a site at least a /64, so that is one client. Only what costs a search or a page is taken from the bucket: an answer
from a file that is open already costs less than refusing it would, and is bounded by the connections.

Decides only; time comes in as an argument. Memory is bounded: clients with connections are as many as those, of the
others the last `MOST_KEPT` are remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from edge.settings import Serve
from manifests.errors import ConfigurationError

MOST_KEPT = 8192

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a client may do in one process.

    Attributes:
        requests_per_s: requests that come back to it each second; 0: no limit.
        burst: requests that it may ask at once.
        connections: open at once.
        free: networks to which none of this applies.
    """

    requests_per_s: float = 0.0
    burst: int = 1
    connections: int = 1 << 20
    free: tuple[_Network, ...] = ()


def parse_networks(texts: Sequence[str]) -> tuple[_Network, ...]:
    """Addresses and networks as settings hold them.

    Raises:
        ConfigurationError: bad data; one of them is neither.
    """
    found = []
    for text in texts:
        try:
            found.append(ip_network(text, strict=False))
        except ValueError as error:
            raise ConfigurationError(
                f"serve.unlimited: {text!r} is neither an address nor a network",
                zh=f"serve.unlimited 中的 {text!r} 既不是地址也不是网段",
                hint="write them like 10.1.0.1 or 10.1.0.0/16",
                hint_zh="请按 10.1.0.1 或 10.1.0.0/16 的形式填写",
            ) from error
    return tuple(found)


def allowance_of(serve: Serve) -> Allowance:
    """What one client address may do.

    Raises:
        ConfigurationError: bad data; a network that is none.
    """
    free = parse_networks(serve.unlimited)
    return Allowance(serve.requests_per_s, serve.requests_burst, serve.connections_per_client, free)


class Client:
    """One client address and what it has left."""

    __slots__ = ("_at_s", "_left", "allowance", "connections", "key")

    def __init__(self, key: bytes, allowance: Allowance, now_s: float) -> None:
        self.key = key
        self.allowance = allowance
        self.connections = 0
        self._left = float(allowance.burst)
        self._at_s = now_s

    def take(self, now_s: float, cost: float = 1.0) -> float:
        """Take a request's cost.

        Returns:
            0 when it was there, else the seconds after which it will be; then nothing was taken.
        """
        rate = self.allowance.requests_per_s
        if not rate:
            return 0.0
        self._left = min(self._left + max(now_s - self._at_s, 0.0) * rate, self.allowance.burst)
        self._at_s = now_s
        if self._left >= cost:
            self._left -= cost
            return 0.0
        return (cost - self._left) / rate

    @property
    def is_over(self) -> bool:
        """Whether it has more connections than it may."""
        return self.connections > self.allowance.connections


class Clients:
    """All client addresses of one process."""

    def __init__(self, allowance: Allowance, most_kept: int = MOST_KEPT) -> None:
        self._allowance = allowance
        self._unbounded = Allowance()
        self._most_kept = most_kept
        self._active: dict[bytes, Client] = {}
        self._kept: OrderedDict[bytes, Client] = OrderedDict()

    def __len__(self) -> int:
        return len(self._active) + len(self._kept)

    def enter(self, address: str, now_s: float) -> Client:
        """Count a connection from an address; whoever calls this calls `leave` once."""
        key, is_free = self._known(address)
        client = self._active.get(key) or self._kept.pop(key, None)
        if client is None:
            client = Client(key, self._unbounded if is_free else self._allowance, now_s)
        self._active[key] = client
        client.connections += 1
        return client

    def leave(self, client: Client) -> None:
        """A connection of it has ended."""
        client.connections -= 1
        if client.connections:
            return
        del self._active[client.key]
        self._kept[client.key] = client
        if len(self._kept) > self._most_kept:
            self._kept.popitem(last=False)

    def _known(self, address: str) -> tuple[bytes, bool]:
        try:
            ip: _Address = ip_address(address.partition("%")[0])
        except ValueError:
            return b"", False  # a client that was gone before it could be asked who it is
        if isinstance(ip, IPv6Address):
            ip = ip.ipv4_mapped or ip
        is_free = any(ip in network for network in self._allowance.free)
        # A free address must not share the bucket of its neighbours that are not.
        return ip.packed[:8] + b"free" * is_free, is_free
