"""The two places where this program reaches inside python-tuf. Should a new tuf move them, this fails first."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.province import DAY, NOON, ManualClock, Province
from tuf.api.exceptions import ExpiredMetadataError
from tuf.ngclient import FetcherInterface, Updater

from edge.sync.tufseam import pin_time, verified_roles
from manifests.instants import Instant


class FromMemory(FetcherInterface):
    """Serves a province without sockets."""

    def __init__(self, province: Province) -> None:
        self.province = province

    def _fetch(self, url: str):  # type: ignore[no-untyped-def]
        from tuf.api.exceptions import DownloadHTTPError

        data = self.province.content.metadata.get(url.removeprefix("metadata/"))
        if data is None:
            raise DownloadHTTPError("no", 404)
        yield data


def updater(province: Province, directory: Path) -> Updater:
    directory.mkdir(exist_ok=True)
    root = province.content.metadata["1.root.json"]
    return Updater(str(directory), "metadata/", fetcher=FromMemory(province), bootstrap=root)


def test_pinned_time_is_the_time_that_tuf_judges_by(tmp_path: Path) -> None:
    # Signed a century away from the wall clock on either side: only the pin can make these outcomes.
    for at in (NOON - 36_500 * DAY, NOON + 36_500 * DAY):
        province = Province(ManualClock(at))
        province.release()
        one = updater(province, tmp_path / f"a{at}")
        pin_time(one, Instant(at + DAY - 1))
        one.refresh()
        assert verified_roles(one).timestamp.version == 1
        other = updater(province, tmp_path / f"b{at}")
        pin_time(other, Instant(at + DAY))
        with pytest.raises(ExpiredMetadataError):
            other.refresh()


def test_verified_roles_are_what_was_signed(tmp_path: Path) -> None:
    province = Province(ManualClock(int(datetime.now(UTC).timestamp())))
    province.release()
    one = updater(province, tmp_path / "t")
    one.refresh()
    roles = verified_roles(one)
    assert [roles.root.type, roles.timestamp.type, roles.snapshot.type, roles.targets.type] == [
        "root",
        "timestamp",
        "snapshot",
        "targets",
    ]


def test_a_tuf_that_moved_its_insides_is_named(tmp_path: Path) -> None:
    province = Province(ManualClock())
    one = updater(province, tmp_path / "t")
    del one._trusted_set.reference_time
    with pytest.raises(TypeError, match="reference_time"):
        pin_time(one, NOON)
    del one._trusted_set
    with pytest.raises(TypeError, match="trusted set"):
        pin_time(one, NOON)
