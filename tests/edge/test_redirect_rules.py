"""Where a redirect may lead, and what is remembered of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.edges import edge_at
from support.province import ManualClock, Province
from yarl import URL

from edge.upstream.redirects import Redirects, plan_redirect, without_query
from manifests.errors import ConfigurationError, TransferError

NOWHERE = "http://127.0.0.1:9"


@given(st.text(max_size=200) | st.from_regex(r"https?://[a-z@:/?#\[\]\\.0-9]{0,40}", fullmatch=True))
def test_any_location_is_followed_to_a_listed_place_or_refused(location: str) -> None:
    places = ("oss.example.cn", "10.1.2.3:9000", "[::1]:9000")
    try:
        found = plan_redirect(URL("http://origin"), location, places)
    except TransferError as error:
        said = error.message
    else:
        said = ""
        assert (found.host, found.port) in {
            ("oss.example.cn", 80),
            ("oss.example.cn", 443),
            ("10.1.2.3", 9000),
            ("::1", 9000),
        }
        assert found.user is None
    query = location.partition("?")[2]
    assert len(query) < 8 or query not in said


@pytest.mark.parametrize(
    ("place", "location", "is_allowed"),
    [
        ("oss.example.cn", "http://oss.example.cn/b/x?y=%2F", True),
        ("oss.example.cn", "https://OSS.example.cn/b/x", True),
        ("OSS.example.cn", "https://oss.example.cn:443/b/x", True),
        ("oss.example.cn", "http://oss.example.cn:9000/b/x", False),
        ("oss.example.cn:9000", "http://oss.example.cn:9000/b/x", True),
        ("oss.example.cn:9000", "http://oss.example.cn/b/x", False),
        ("oss.example.cn", "http://b.oss.example.cn/x", False),
        ("oss.example.cn", "http://oss.example.cn.evil.cn/x", False),
        ("oss.example.cn", "http://oss.example.cn@evil.cn/x", False),
        ("oss.example.cn", "http://evil.cn\\@oss.example.cn/x", False),
        ("oss.example.cn", "http://user:word@oss.example.cn/x", False),
        ("oss.example.cn", "//oss.example.cn/x", False),
        ("oss.example.cn", "/b/x", False),
        ("oss.example.cn", "ftp://oss.example.cn/x", False),
        ("oss.example.cn", "http://oss.example.cn/x y", False),
        ("oss.example.cn", "http://oss.example.cn/" + "x" * 9000, False),
        ("oss.example.cn", "", False),
        ("[::1]:9000", "http://[::1]:9000/x", True),
        ("[::1]:9000", "http://[::1/x", False),
    ],
)
def test_places(place: str, location: str, is_allowed: bool) -> None:
    if is_allowed:
        assert str(plan_redirect(URL("http://origin"), location, (place,))).endswith(location.rpartition("/")[2])
    else:
        with pytest.raises(TransferError):
            plan_redirect(URL("http://origin"), location, (place,))


def test_never_from_https_to_http() -> None:
    places = ("oss.example.cn",)
    with pytest.raises(TransferError, match="without TLS"):
        plan_redirect(URL("https://origin"), "http://oss.example.cn/x", places)
    assert plan_redirect(URL("https://origin"), "https://oss.example.cn/x", places)


def test_what_is_remembered() -> None:
    redirects = Redirects("http://origin", ("store",))
    old = redirects.take("/blobs/aa", "http://store/old")
    assert redirects.known("/blobs/aa", 0) == old
    new = redirects.take("/blobs/aa", "http://store/new")
    redirects.forget("/blobs/aa", old)
    assert redirects.known("/blobs/aa", 0) == new, "another request has brought a newer one"
    redirects.forget("/blobs/aa", new)
    assert redirects.known("/blobs/aa", 0) is None
    for n in range(200):
        redirects.take(f"/blobs/{n}", f"http://store/{n}")
    assert sum(redirects.known(f"/blobs/{n}", 0) is not None for n in range(200)) == 64
    redirects.distrust(100)
    redirects.take("/blobs/aa", "http://store/late")  # it was under way
    assert redirects.known("/blobs/aa", 159) is None
    assert not redirects.is_asked_for("/blobs/aa", 159)
    assert redirects.is_asked_for("/blobs/aa", 160)


def test_queries_are_masked() -> None:
    text = "400, message='Bad status', url='http://store/b/x?X-Amz-Signature=5ecre7&y=1'"
    assert without_query(text) == "400, message='Bad status', url='http://store/b/x?…'"


@pytest.mark.parametrize("place", ["http://oss.example.cn", "oss.cn/x", "a b", ":9000", "a:123456", "user@host"])
async def test_a_place_that_is_none_is_refused(tmp_path: Path, place: str) -> None:
    clock = ManualClock()
    with pytest.raises(ConfigurationError, match=r"upstream\.redirects"):
        async with edge_at(tmp_path / "edge", Province(clock), clock, NOWHERE, upstream_redirects=place):
            pass
