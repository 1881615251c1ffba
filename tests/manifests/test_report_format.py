"""FORMAT.md section 9, reports: the example is what the text says, and the programs do what both say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from manifests import reports
from manifests.errors import ConfigurationError, FormatError, InputError, SignatureError
from manifests.instants import Instant
from manifests.reports import Envelope, Report, decode_envelopes, encode_report, inventory_bytes, inventory_digest
from manifests.signing import Signer, key_id_of, open_envelope, parse_public_key
from origin.stations.folding import Opened, fold

PACKAGE = Path(reports.__file__).parent
TEXT = (PACKAGE / "FORMAT.md").read_text(encoding="utf-8")
EXAMPLE: dict[str, Any] = json.loads((PACKAGE / "examples" / "reports.json").read_text(encoding="utf-8"))


def pem_of(seed: str) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def batch() -> list[Envelope]:
    return decode_envelopes(json.dumps(EXAMPLE["batch"]).encode())


def test_the_digest_of_an_inventory() -> None:
    one = EXAMPLE["inventory"]
    assert inventory_bytes(one["held"]).decode() == one["text"]
    assert inventory_digest(one["held"]) == one["digest"]
    assert f"```text inventory\n{one['text']}{one['digest']}\n```" in TEXT


def test_the_batch_is_signed_and_signing_gives_it_again() -> None:
    signer = Signer(pem_of(EXAMPLE["seed"]))
    assert (signer.public_key, signer.key_id) == (EXAMPLE["public_key"], EXAMPLE["key_id"])
    for envelope in batch():
        report = open_envelope(envelope, EXAMPLE["public_key"])
        assert signer.sign(report) == envelope
        reports.read_body(report)


def test_applying_the_batch() -> None:
    opened = []
    for envelope in batch():
        report = open_envelope(envelope, EXAMPLE["public_key"])
        opened.append(Opened(report, reports.read_body(report)))
    out = fold(0, False, {}, opened, Instant(1_900_000_000))
    assert out.held is not None
    assert {id_: one.version for id_, one in out.held.items()} == EXAMPLE["held"]
    assert {one.courseware: one.version for one in out.receipts} == EXAMPLE["recalled"]
    assert {"received": out.received} == EXAMPLE["answer"]
    assert not out.want_full


@pytest.mark.parametrize(
    ("title", "struct"),
    [
        ("answer", reports.Answer),
        ("envelope", Envelope),
        ("report", Report),
        ("inventory", reports.Inventory),
        ("run", reports.Run),
        ("state", reports.State),
        ("watching", reports.Watched),
    ],
)
def test_tables_name_every_member(title: str, struct: Any) -> None:
    found = re.search(rf"^\| {title} \|.*\n\|[-|:]+\|\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    assert found
    named = {name.strip("* ") for row in found[1].splitlines() for name in row.split("|")[1].split(",")}
    assert named == set(struct.__struct_encode_fields__)


def test_limits_in_the_text() -> None:
    assert f"1 to {reports.MAX_BATCH:,} envelopes" in TEXT
    assert reports.MAX_BATCH_BYTES == 24 << 20
    assert reports.MAX_REPORT_BYTES == 16 << 20


def test_a_changed_report_is_not_signed() -> None:
    envelope = batch()[0]
    for text in (envelope.text.replace("41", "42"), envelope.text + " ", ""):
        with pytest.raises(SignatureError):
            open_envelope(msgspec.structs.replace(envelope, text=text), EXAMPLE["public_key"])
    with pytest.raises(SignatureError):
        open_envelope(envelope, "00" * 32)


def test_other_formats_are_refused() -> None:
    signer = Signer(pem_of(EXAMPLE["seed"]))
    report = open_envelope(batch()[0], EXAMPLE["public_key"])
    for change in ({"format": "yuanjiao-catalog"}, {"major": 2}, {"at": "2026-02-30T00:00:00Z"}):
        other = msgspec.structs.replace(report, **change)  # type: ignore[arg-type]
        with pytest.raises(FormatError):
            open_envelope(signer.sign(other), EXAMPLE["public_key"])
    newer = json.loads(encode_report(report)) | {"a-field-of-a-later-minor": 1}
    assert reports.decode_report(json.dumps(newer)).number == report.number


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "0" * 63, "０" * 64, "ff" * 33])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_public_key(text)


def test_a_public_key_is_taken_as_a_person_pastes_it() -> None:
    key = EXAMPLE["public_key"]
    assert parse_public_key(f" {key.upper()}\n") == key
    assert key_id_of(key) == EXAMPLE["key_id"]


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_private_key_is_refused(pem: bytes) -> None:
    with pytest.raises(ConfigurationError):
        Signer(pem)
