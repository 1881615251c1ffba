"""What an edge tells of lessons that were evicted: /healthz and /metrics."""

from __future__ import annotations

import json
from pathlib import Path

from support.edge_store import make_blob
from support.portal import NOW, HandClock, Shop, file_of, get, lesson, served

from edge.store.eviction import BIG_BYTES
from edge.store.usage import Usage
from manifests.instants import Instant

FILM = make_blob(BIG_BYTES, "film", 65536)


async def test_evicted_lessons_are_counted_and_stay_listed(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.put(FILM)
    shop.install(lesson("kj-1", file_of(FILM, "a.mp4")))
    with Usage.open(shop.paths.usage) as usage:
        usage.note_evicted({FILM.digest: BIG_BYTES}, Instant(NOW), "planned")
        shop.store.delete([FILM.digest])
        async with served(tmp_path, HandClock()) as port:
            health = json.loads((await get(port, "/healthz")).body)
            assert (health["evicted"], health["courseware"]) == (1, 1)
            text = (await get(port, "/metrics")).body.decode()
    shop.close()
    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("yuanjiao_edge_evicted"))
    assert {name: float(value) for name, value in told.items()} == {
        'yuanjiao_edge_evicted_blobs_total{standing="planned"}': 1,
        'yuanjiao_edge_evicted_blobs_total{standing="pulled"}': 0,
        'yuanjiao_edge_evicted_bytes_total{standing="planned"}': BIG_BYTES,
        'yuanjiao_edge_evicted_bytes_total{standing="pulled"}': 0,
    }
