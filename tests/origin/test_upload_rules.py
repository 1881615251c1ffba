"""What clients say of uploads, read; and who is let in: any text, any figures."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import InputError
from origin.drafts.admission import Held, Limits, plan_admission
from origin.web.tus_fields import (
    ALGORITHMS,
    dump_metadata,
    parse_checksum,
    parse_length,
    parse_metadata,
)

KEYS = st.text(st.sampled_from([chr(code) for code in range(33, 127) if chr(code) != ","]), min_size=1, max_size=20)


@given(st.dictionaries(KEYS, st.text(max_size=50), max_size=16))
def test_metadata_comes_back_as_it_was(values: dict[str, str]) -> None:
    assert parse_metadata(dump_metadata(values)) == values


@given(st.text(max_size=80))
def test_any_text_is_metadata_or_refused(text: str) -> None:
    with suppress(InputError):
        found = parse_metadata(text)
        assert all(isinstance(value, str) for value in found.values())
        assert len(found) <= 16


@given(st.text(max_size=30))
def test_any_text_is_a_count_of_bytes_or_refused(text: str) -> None:
    with suppress(InputError):
        found = parse_length({"Upload-Length": text}, "Upload-Length")
        assert str(found) == text
        assert 0 <= found < 10**18


@given(st.sampled_from(ALGORITHMS), st.binary(max_size=40))
def test_a_checksum_has_its_algorithms_length(algorithm: str, digest: bytes) -> None:
    text = f"{algorithm} {base64.b64encode(digest).decode()}"
    size = hashlib.new(algorithm).digest_size
    if len(digest) == size:
        found = parse_checksum(text)
        assert found is not None
        assert (found.algorithm, found.digest) == (algorithm, digest)
    else:
        with pytest.raises(InputError):
            parse_checksum(text)


COUNT = st.integers(0, 1 << 45)


@given(COUNT, COUNT, COUNT, st.integers(0, 50), COUNT, COUNT, COUNT, COUNT)
def test_whoever_is_admitted_is_within_every_limit(
    size: int, file: int, account: int, files: int, floor: int, held: int, promised: int, free: int
) -> None:
    limits = Limits(file, account, 40, floor)
    plan = plan_admission(size, Held(files, held, promised, free), limits)
    is_within = 1 <= size <= file and files < 40 and held + size <= account and free - promised - size >= floor
    assert (plan.verdict == "admitted") == is_within
    assert bool(plan.reason) == bool(plan.reason_zh) == (not is_within)
