"""The bundle: what an edge starts from, or refuses to."""

import json
from typing import Any

import pytest

from manifests.bundle import MAX_BUNDLE_BYTES, Bundle, Identity, check_upstream, decode_bundle, encode_bundle
from manifests.errors import ConfigurationError

IDENTITY = Identity("ab" * 16, "cd" * 32, "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")
BUNDLE = Bundle(
    format="yuanjiao-bundle",
    major=1,
    publisher="410000",
    region="410122",
    region_name="中牟县",
    upstreams=("http://10.1.2.3:8080", "https://origin.example/base"),
    root='{"signed": {}}',
    issued="2026-11-24T02:56:09Z",
    identity=IDENTITY,
)


def changed(**fields: Any) -> bytes:
    document = json.loads(encode_bundle(BUNDLE))
    for name, value in fields.items():
        if value is ...:
            del document[name]
        else:
            document[name] = value
    return json.dumps(document).encode()


def test_round_trip() -> None:
    assert decode_bundle(encode_bundle(BUNDLE)) == BUNDLE


def test_without_identity_and_with_more_fields() -> None:
    plain = decode_bundle(changed(identity=..., minor=3, later={"a": 1}))
    assert plain.identity is None
    assert b"identity" not in encode_bundle(plain)


def test_upstreams_come_without_a_slash_at_the_end() -> None:
    assert decode_bundle(changed(upstreams=["http://a:1/", "http://b/c//"])).upstreams == ("http://a:1", "http://b/c")


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "yuanjiao-catalog"},
        {"format": ...},
        {"major": 2},
        {"major": "1"},
        {"major": ...},
        {"publisher": "41"},
        {"publisher": "410000\n"},
        {"region": ...},
        {"region": "０10122"},
        {"region_name": "x" * 61},
        {"upstreams": []},
        {"upstreams": ["http://a"] * 17},
        {"upstreams": ["ftp://a"]},
        {"upstreams": [1]},
        {"root": ...},
        {"root": {}},
        {"issued": "yesterday"},
        {"issued": "2026-02-31T00:00:00Z"},
        {"issued": "2026-11-24T02:56:09Z\n"},
        {"identity": {}},
        {"identity": {"key_id": "", "public_key": "cd" * 32, "private_key": ""}},
        {"identity": {"key_id": "a", "public_key": "cd" * 31, "private_key": ""}},
        {"identity": {"key_id": "a", "public_key": "cd" * 32 + "\n", "private_key": ""}},
    ],
    ids=str,
)
def test_broken_bundles(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        decode_bundle(changed(**fields))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"\xff\xfe{}", b"not json", b"[" * 100_000, b'{"a":' * 100_000, b"MZ\x90\0"],
    ids=range(9),
)
def test_what_is_no_bundle_at_all(data: bytes) -> None:
    with pytest.raises(ConfigurationError) as caught:
        decode_bundle(data)
    assert "origin enroll" in caught.value.hint


def test_too_long() -> None:
    with pytest.raises(ConfigurationError, match="too many"):
        decode_bundle(encode_bundle(BUNDLE) + b" " * MAX_BUNDLE_BYTES)


@pytest.mark.parametrize(
    "url",
    ["http://10.1.2.3:8080", "https://a.example", "http://[::1]:8080", "http://源站.example/远教", "http://a/b/c"],
)
def test_upstreams(url: str) -> None:
    assert check_upstream(url + "/") == url


@pytest.mark.parametrize(
    "url",
    [
        "", "a", "//a", "http://", "http:///x", "ftp://a", "file:///etc/passwd", "javascript:alert(1)", "HTTP//a",
        "http://a:0", "http://a:99999", "http://a:x", "http://[::1", "http://u:p@a", "http://a@b", "http://a?x=1", "http://a?",
        "http://a#x", "http://a#", "http://a b", " http://a", "http://a\n", "http://a\r\nHost: b", "http://a\t.b", "http://a\\b",
        "http://" + "a" * 500,
    ],
)  # fmt: skip
def test_upstreams_that_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base address"):
        check_upstream(url)
