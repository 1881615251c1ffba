"""Near clients are served without pacing, far ones with what the system is set to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.serve import nearness
from edge.serve.nearness import Congestion, choose_congestion, round_trip_s


def _name_of(one: socket.socket) -> str:
    return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode("ascii")


def _give(one: socket.socket, name: str) -> None:
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode("ascii"))


def _other_than(name: str) -> str:
    """Another algorithm that this process may use."""
    allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text("ascii").split()
    found = next((one for one in allowed if one != name), None)
    if found is None:
        pytest.skip(f"this system allows {name} only")
    return found


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def far(listener: socket.socket) -> str:
    """The listener's algorithm, made one that is not Reno, as where BBR is the system's."""
    name = _name_of(listener)
    if name == "reno":
        name = _other_than("reno")
        _give(listener, name)
    return name


def _accepted(listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(listener.getsockname(), timeout=10)
    return client, listener.accept()[0]


def test_a_client_on_this_machine_is_near(listener: socket.socket, far: str) -> None:
    chosen = choose_congestion(listener, "reno")
    assert chosen == Congestion("reno", far)
    client, accepted = _accepted(listener)
    with client, accepted:
        assert 0 < round_trip_s(accepted) < nearness.NEAR_S
        chosen.settle(accepted)
        assert _name_of(accepted) == "reno"


def test_a_far_client_is_given_the_systems(listener: socket.socket, far: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose_congestion(listener, "reno")
    assert chosen is not None
    client, accepted = _accepted(listener)
    with client, accepted:
        assert _name_of(accepted) == "reno"
        monkeypatch.setattr(nearness, "NEAR_S", round_trip_s(accepted))
        chosen.settle(accepted)
        assert _name_of(accepted) == far


def test_what_the_system_does_not_have_falls_back_to_reno(listener: socket.socket, far: str) -> None:
    assert choose_congestion(listener, "no-such-thing") == Congestion("reno", far)
    assert _name_of(listener) == "reno"


def test_nothing_is_done_where_nothing_is_to_be_done(listener: socket.socket) -> None:
    name = _name_of(listener)
    assert choose_congestion(listener, "") is None
    assert choose_congestion(listener, name) is None
    assert _name_of(listener) == name


def test_a_connection_that_is_gone_or_is_no_tcp_is_left_alone(tmp_path: Path) -> None:
    chosen = Congestion("reno", "cubic")
    left, right = socket.socketpair()
    with left, right:
        chosen.settle(left)
        assert choose_congestion(left, "reno") is None
    chosen.settle(left)
