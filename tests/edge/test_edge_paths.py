"""Names inside an edge's directory."""

import stat
from pathlib import Path

from edge.clock import system_clock
from edge.paths import Paths
from manifests.digests import Digest


def test_names_stay_inside(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "edge")
    digest = Digest("ab" + "0" * 62)
    assert paths.blob(digest) == tmp_path / "edge" / "blobs" / "ab" / digest
    assert paths.partial(digest) == tmp_path / "edge" / "partial" / digest


def test_make_is_repeatable_and_private_where_it_matters(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "edge")
    paths.make()
    paths.make()
    assert stat.S_IMODE(paths.identity.stat().st_mode) == 0o700
    assert paths.partials.is_dir()


def test_the_clock_gives_whole_seconds() -> None:
    assert isinstance(system_clock(), int)
