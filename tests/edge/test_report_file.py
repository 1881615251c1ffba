"""The signed state that an edge writes into a file: for couriers, and for a look by hand."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.edges import edge_at, run
from support.province import ManualClock, Province

from edge import app
from edge.store.configuration import read_bundle
from edge.store.decay import ScrubRecord
from edge.store.scrub_log import note_scrub
from manifests.errors import SignatureError
from manifests.pieces import PIECE_SIZE, parse_table
from manifests.reports import State, decode_envelope, encode_envelope, read_body
from manifests.signing import open_envelope


@pytest.fixture
def province() -> Province:
    made = Province(ManualClock())
    made.lesson("film", {"video.mp4": b"f" * (2 * PIECE_SIZE)})
    made.lesson("paper", {"paper.pdf": b"p" * 70_000})
    made.release()
    return made


async def test_a_state_in_a_file(tmp_path: Path, province: Province) -> None:
    async with province.site().running() as site, edge_at(tmp_path, province, province.clock, site.url) as edge:
        await run(edge)
        identity = read_bundle(edge.paths).identity
        assert identity is not None
        first, second = app.write_report(edge), app.write_report(edge)
        envelope = decode_envelope(encode_envelope(second))
        report = open_envelope(envelope, identity.public_key)
        assert envelope.key_id == identity.key_id
        assert (report.kind, report.region) == ("state", "410122")
        assert report.number > open_envelope(first, identity.public_key).number, "no number comes twice"
        state = read_body(report)
        assert isinstance(state, State)
        assert state.held == {"film": 1, "paper": 1}
        assert state.catalog_version == 1
        assert state.room_bytes > 0
        forged = msgspec.structs.replace(envelope, text=envelope.text.replace("410122", "410123"))
        with pytest.raises(SignatureError):
            open_envelope(forged, identity.public_key)


async def test_what_is_begun_is_told(tmp_path: Path, province: Province) -> None:
    film = province.lessons["film"].files[0].ref
    async with province.site().running() as site, edge_at(tmp_path, province, province.clock, site.url) as edge:
        assert film.table is not None
        table = parse_table(province.content.blobs[film.table], film.size, film.piece_size)
        with edge.store.begin(film, table) as partial:
            partial.write_pieces(0, province.content.blobs[film.digest][:PIECE_SIZE])
        report = open_envelope(app.write_report(edge), read_bundle(edge.paths).identity.public_key)  # type: ignore[union-attr]
        state = read_body(report)
        assert isinstance(state, State)
        assert (state.held, state.partial) == ({}, {film.digest: PIECE_SIZE})


async def test_a_disk_that_decays_is_told(tmp_path: Path, province: Province) -> None:
    async with edge_at(tmp_path, province, province.clock) as edge:
        note_scrub(edge.paths.scrubs, ScrubRecord(province.clock(), 1 << 30, unreadable=1))
        state = read_body(open_envelope(app.write_report(edge), read_bundle(edge.paths).identity.public_key))  # type: ignore[union-attr]
        assert isinstance(state, State)
        assert [fault[:7] for fault in state.faults] == ["存储盘正在老化"]
