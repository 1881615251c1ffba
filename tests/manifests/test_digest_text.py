"""Digests, instants: one form each on the wire, everything else refused."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.digests import check_bytes, digest_of, dump_etag, dump_repr_digest, is_digest, parse_digest
from manifests.errors import DigestError, FormatError
from manifests.instants import Instant, dump_instant, parse_instant

GOOD = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.binary(max_size=200))
def test_digest_is_sha256_of_any_bytes_like(data: bytes) -> None:
    expected = hashlib.sha256(data).hexdigest()
    assert digest_of(data) == digest_of(bytearray(data)) == digest_of(memoryview(data)) == expected
    assert parse_digest(expected) == expected
    check_bytes(data, digest_of(data), len(data), "x")


@pytest.mark.parametrize(
    "text",
    ["", GOOD[:-1], GOOD + "0", GOOD.upper(), GOOD + "\n", "g" + GOOD[1:], " " + GOOD[1:], "../" + GOOD[3:], "４" * 64],
)
def test_what_is_not_a_blob_name(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(FormatError):
        parse_digest(text)


def test_bytes_are_refused_for_length_and_for_content() -> None:
    with pytest.raises(DigestError, match="lesson: 1 bytes where 0"):
        check_bytes(b"x", parse_digest(GOOD), 0, "lesson")
    with pytest.raises(DigestError, match="lesson: digest"):
        check_bytes(b"x", parse_digest(GOOD), 1, "lesson")


def test_header_forms() -> None:
    assert dump_etag(parse_digest(GOOD)) == f'"{GOOD}"'
    assert dump_repr_digest(parse_digest(GOOD)) == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"


FIRST, LAST = -62135596800, 253402300799


@given(st.integers(FIRST, LAST))
def test_instants_round_trip_and_sort_as_time_does(at: int) -> None:
    text = dump_instant(Instant(at))
    assert len(text) == 20
    assert parse_instant(text) == at
    assert at == LAST or text < dump_instant(Instant(at + 1))


def test_known_instant() -> None:
    assert parse_instant("2026-11-24T02:56:09Z") == 1795488969


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-24",
        "2026-11-24T02:56:09",
        "2026-11-24T02:56:09+00:00",
        "2026-11-24 02:56:09Z",
        "2026-11-24T02:56:09.5Z",
        "2026-11-24T02:56Z",
        "20261124T025609Z",
        "2026-11-24t02:56:09z",
        "2026-11-24T02:56:09Z\n",
        "２０２６-11-24T02:56:09Z",
        "2026-13-24T02:56:09Z",
        "2026-02-30T02:56:09Z",
        "2026-11-24T24:00:01Z",
        "2026-11-24T02:56:60Z",
        "0000-01-01T00:00:00Z",
    ],
)
def test_other_instants_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_instant(text)
