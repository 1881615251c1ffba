"""What one client address may ask for: the bucket, the addresses, and a memory that stays bounded."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.serve.allowance import Allowance, Clients, parse_networks
from edge.settings import Serve
from manifests.errors import ConfigurationError

SMALL = Allowance(requests_per_s=2.0, burst=5, connections=3, free=parse_networks(["127.0.0.0/8", "::1"]))


@given(
    steps=st.lists(st.tuples(st.floats(0, 10), st.sampled_from([1.0, 4.0])), max_size=60),
    rate=st.floats(0.1, 100),
    burst=st.integers(4, 50),
)
def test_never_more_than_burst_and_rate_and_the_wait_is_enough(
    steps: list[tuple[float, float]], rate: float, burst: int
) -> None:
    client = Clients(Allowance(rate, burst)).enter("10.0.0.1", 0.0)
    now_s, taken = 0.0, 0.0
    for after_s, cost in steps:
        now_s += after_s
        wait_s = client.take(now_s, cost)
        if wait_s:
            now_s += wait_s * (1 + 1e-9) + 1e-6
            assert client.take(now_s, cost) == 0
        taken += cost
        assert taken <= burst + rate * now_s + 1e-3


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    client = Clients(SMALL).enter("10.0.0.1", 100.0)
    assert [client.take(100.0) for _ in range(5)] == [0] * 5
    assert client.take(100.0) == pytest.approx(0.5)
    assert client.take(90.0) == pytest.approx(0.5)
    assert client.take(90.6) == 0


def test_no_rate_is_no_limit() -> None:
    client = Clients(Allowance()).enter("10.0.0.1", 0.0)
    assert {client.take(0.0, 4.0) for _ in range(10_000)} == {0.0}


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::1", "::2", False),
        ("", "", True),
    ],
)
def test_who_is_one_client(one: str, other: str, is_same: bool) -> None:
    clients = Clients(SMALL)
    assert (clients.enter(one, 0.0) is clients.enter(other, 0.0)) is is_same


@pytest.mark.parametrize(("address", "is_free"), [("127.8.9.1", True), ("::1", True), ("128.0.0.1", False)])
def test_free_networks_have_no_limit(address: str, is_free: bool) -> None:
    clients = Clients(SMALL)
    found = [clients.enter(address, 0.0) for _ in range(5)]
    assert any(one.take(0.0) for one in found * 2) is not is_free
    assert found[0].is_over is not is_free


def test_connections_are_counted_and_a_client_that_returns_is_known() -> None:
    clients = Clients(SMALL)
    held = [clients.enter("10.0.0.1", 0.0) for _ in range(3)]
    assert not held[0].is_over
    assert clients.enter("10.0.0.1", 0.0).is_over
    while not held[0].take(0.0):
        pass
    for client in [*held, held[0]]:
        clients.leave(client)
    again = clients.enter("10.0.0.1", 0.1)
    assert again.take(0.1), "what was used up is not forgotten with the last connection"
    assert again.connections == 1


def test_memory_is_bounded_however_many_addresses_there_are() -> None:
    clients = Clients(SMALL, most_kept=100)
    busy = clients.enter("10.0.0.1", 0.0)
    for n in range(5000):
        clients.leave(clients.enter(str(ip_address(0x0B000000 + n)), 0.0))
    assert len(clients) == 101
    assert clients.enter("10.0.0.1", 0.0) is busy


def test_a_network_that_is_none_is_told() -> None:
    with pytest.raises(ConfigurationError) as told:
        parse_networks(["10.0.0.0/8", "classroom"])
    assert "classroom" in told.value.zh
    assert parse_networks(Serve().unlimited)
