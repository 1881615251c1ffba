"""Making an edge from a bundle: what is written, with which permissions, and what is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from support.edges import FAST
from support.province import DAY, ManualClock, Province

from edge import app
from edge.paths import Paths
from edge.settings import Settings
from edge.store.configuration import read_bundle, read_settings
from manifests.bundle import Identity, decode_bundle, encode_bundle
from manifests.errors import ConfigurationError

URL = "http://10.1.2.3:8080"


@pytest.fixture
def province() -> Province:
    made = Province(ManualClock())
    made.release()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_made(tmp_path: Path, province: Province) -> None:
    root = tmp_path / "edge"
    app.init_edge(root, province.bundle(URL), province.clock)
    paths = Paths(root)
    assert mode(paths.key) == 0o600
    assert mode(paths.identity) == 0o700
    assert b"PRIVATE KEY" in paths.key.read_bytes()
    kept = read_bundle(paths)
    assert kept.upstreams == (URL,)
    assert kept.identity is not None
    assert kept.identity.private_key == ""
    assert len(kept.identity.public_key) == 64
    assert read_settings(paths, {}) == Settings(), "edge.toml shows the defaults"


def test_every_line_of_the_settings_file_can_be_switched_on(tmp_path: Path, province: Province) -> None:
    app.init_edge(tmp_path, province.bundle(URL), province.clock)
    path = Paths(tmp_path).settings
    lines = [line.removeprefix("# ") if " = " in line else line for line in path.read_text("utf-8").splitlines()]
    path.write_text("\n".join(lines), "utf-8")
    assert read_settings(Paths(tmp_path), {}) == Settings()


def carried(pem: str, public_key: str | None = None) -> Identity:
    made = Ed25519PrivateKey.generate()
    text = pem or made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    raw = made.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    return Identity("ab12", public_key or raw, text)


def test_the_key_of_the_bundle_is_taken_out_of_it(tmp_path: Path, province: Province) -> None:
    identity = carried("")
    bundle = msgspec.structs.replace(decode_bundle(province.bundle(URL)), identity=identity)
    app.init_edge(tmp_path, encode_bundle(bundle), province.clock)
    paths = Paths(tmp_path)
    assert paths.key.read_text() == identity.private_key
    assert b"PRIVATE" not in paths.bundle.read_bytes()
    assert read_bundle(paths).identity == msgspec.structs.replace(identity, private_key="")


@pytest.mark.parametrize(
    "identity",
    [
        carried("garbage"),
        carried("-----BEGIN PRIVATE KEY-----\nSECRETxyz\n-----END PRIVATE KEY-----\n"),
        carried("", public_key="0" * 64),
    ],
    ids=["no PEM", "no key", "another public key"],
)
def test_a_key_pair_that_is_none_is_refused_before_anything_is_made(
    tmp_path: Path, province: Province, identity: Identity
) -> None:
    bundle = msgspec.structs.replace(decode_bundle(province.bundle(URL)), identity=identity)
    with pytest.raises(ConfigurationError) as caught:
        app.init_edge(tmp_path / "edge", encode_bundle(bundle), province.clock)
    assert "SECRET" not in str(caught.value)
    assert not (tmp_path / "edge").exists()


async def test_a_strangers_bundle_does_not_take_an_edge_over(tmp_path: Path, province: Province) -> None:
    stranger = Province(province.clock)
    stranger.release()
    app.init_edge(tmp_path, province.bundle(URL), province.clock)
    before = Paths(tmp_path).bundle.read_bytes()
    with pytest.raises(ConfigurationError, match="root of trust"):
        app.init_edge(tmp_path, stranger.bundle(URL), province.clock)
    assert Paths(tmp_path).bundle.read_bytes() == before


def test_a_newer_bundle_of_the_same_county_keeps_the_key(tmp_path: Path, province: Province) -> None:
    app.init_edge(tmp_path, province.bundle(URL), province.clock)
    paths = Paths(tmp_path)
    key, settings = paths.key.read_bytes(), "[serve]\nport = 9999\n"
    paths.settings.write_text(settings)
    app.init_edge(tmp_path, province.bundle("http://10.9.9.9:1"), province.clock)
    assert paths.key.read_bytes() == key
    assert paths.settings.read_text() == settings
    assert read_bundle(paths).upstreams == ("http://10.9.9.9:1",)


def test_another_countys_bundle_is_refused(tmp_path: Path, province: Province) -> None:
    app.init_edge(tmp_path, province.bundle(URL), province.clock)
    with pytest.raises(ConfigurationError, match="410122"):
        app.init_edge(tmp_path, province.bundle(URL, region="410123"), province.clock)


@pytest.mark.parametrize("data", [b"", b"{}", b"\x00\xff", b'{"format": "yuanjiao-bundle", "major": 9}', b"[1]"])
def test_what_is_no_bundle_is_refused_and_leaves_nothing(tmp_path: Path, province: Province, data: bytes) -> None:
    root = tmp_path / "edge"
    with pytest.raises(ConfigurationError):
        app.init_edge(root, data, province.clock)
    assert not root.exists()


@pytest.mark.parametrize("root_text", ["", "{}", "not json"])
def test_a_bundle_without_a_usable_root_is_refused(tmp_path: Path, province: Province, root_text: str) -> None:
    bundle = msgspec.structs.replace(decode_bundle(province.bundle(URL)), root=root_text)
    with pytest.raises(ConfigurationError, match="root of trust"):
        app.init_edge(tmp_path / "edge", encode_bundle(bundle), province.clock)
    assert not (tmp_path / "edge").exists()


def test_a_root_with_a_broken_signature_is_refused(tmp_path: Path, province: Province) -> None:
    bundle = decode_bundle(province.bundle(URL))
    bent = msgspec.structs.replace(bundle, root=bundle.root.replace('"threshold":1', '"threshold":2', 1))
    with pytest.raises(ConfigurationError):
        app.init_edge(tmp_path / "edge", encode_bundle(bent), province.clock)


def test_a_place_that_is_something_else_is_refused(tmp_path: Path, province: Province) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="not empty"):
        app.init_edge(tmp_path, province.bundle(URL), province.clock)
    with pytest.raises(ConfigurationError, match="a file"):
        app.init_edge(tmp_path / "letter.txt", province.bundle(URL), province.clock)


async def test_opening_what_is_no_edge(tmp_path: Path, province: Province) -> None:
    clock = province.clock
    with pytest.raises(ConfigurationError, match="no edge"):
        async with app.open_edge(tmp_path, FAST, clock):
            pass
    app.init_edge(tmp_path, province.bundle(URL), clock)
    for env in ({"YUANJIAO_UPSTREAM_URLS": "ftp://x"}, {"YUANJIAO_UPSTREAM_RETRIES": "many"}):
        with pytest.raises(ConfigurationError):
            async with app.open_edge(tmp_path, FAST | env, clock):
                pass
    Paths(tmp_path).settings.write_text("[upstream]\nurl = 'http://x'\n")
    with pytest.raises(ConfigurationError, match="unknown key"):
        async with app.open_edge(tmp_path, FAST, clock):
            pass


def test_a_clock_behind_the_bundle_is_only_a_warning(tmp_path: Path, province: Province) -> None:
    app.init_edge(tmp_path, province.bundle(URL), ManualClock(province.clock() - 900 * DAY))
    assert Paths(tmp_path).settings.exists()
