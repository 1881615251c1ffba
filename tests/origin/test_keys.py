"""Key files: how they are made, found, refused and put in their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from tuf.api.metadata import Root

from manifests.errors import ConfigurationError
from origin.publish.keys import KeyRing, check_key_files, key_files, stems


def _root(**roles: list[object]) -> Root:
    root = Root(version=4)
    for role, keys in roles.items():
        for key in keys:
            root.add_key(key, role)
    return root


def test_a_key_file_is_private_and_pem(tmp_path: Path) -> None:
    ring = KeyRing((tmp_path / "keys",))
    signer = ring.create("targets")
    path = tmp_path / "keys" / "targets.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert ring.create("targets").public_key == signer.public_key
    (found,) = ring.signers(_root(targets=[signer.public_key]), "targets")
    assert found.public_key == signer.public_key
    assert check_key_files(path.parent) == []


def test_a_passphrase_encrypts_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    signer = KeyRing((tmp_path,), "开门").create("root")
    root = _root(root=[signer.public_key])
    assert b"ENCRYPTED" in (tmp_path / "root.pem").read_bytes()
    assert KeyRing((tmp_path,), "开门").signers(root, "root")[0].public_key == signer.public_key
    for passphrase, words in ((None, "no passphrase was given"), ("关门", "does not open")):
        with pytest.raises(ConfigurationError, match=words) as caught:
            KeyRing((tmp_path,), passphrase).signers(root, "root")
        assert "关门" not in str(caught.value)
    plain = KeyRing((tmp_path / "plain",)).create("root")
    assert KeyRing((tmp_path / "plain",), "开门").signers(_root(root=[plain.public_key]), "root")


def test_a_server_that_nobody_attends_can_use_its_keys_without_the_passphrase(tmp_path: Path) -> None:
    attended = KeyRing((tmp_path,), "开门")
    for role in ("root", "root-2", "targets", "snapshot", "timestamp"):
        attended.create(role)
        attended.create_pending(role)
    encrypted = {file.stem for file in key_files(tmp_path) if b"ENCRYPTED" in file.path.read_bytes()}
    assert encrypted == {"root", "root-2", "targets"}
    for role in ("snapshot", "timestamp"):
        public = attended.create(role).public_key
        assert KeyRing((tmp_path,)).signers(_root(**{role: [public]}), role)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    ring = KeyRing((tmp_path, tmp_path / "unplugged"))
    signers = [ring.create(stem) for stem in stems("root", 3)]
    root = _root(root=[signer.public_key for signer in signers])
    root.roles["root"].threshold = 3
    assert len(ring.signers(root, "root")) == 3
    (tmp_path / "root-2.pem").unlink()
    with pytest.raises(ConfigurationError, match=r"missing root-2\.pem") as caught:
        ring.signers(root, "root")
    assert "root-2.pem" in caught.value.hint
    assert caught.value.exit_code == 2
    root.roles["root"].threshold = 2
    assert len(ring.signers(root, "root")) == 2


def test_keys_may_lie_in_two_places(tmp_path: Path) -> None:
    stick, disk = tmp_path / "stick", tmp_path / "disk"
    offline = KeyRing((stick,)).create("targets")
    ring = KeyRing((disk, stick))
    online = ring.create("timestamp")
    root = _root(targets=[offline.public_key], timestamp=[online.public_key])
    assert ring.signers(root, "targets")
    assert ring.signers(root, "timestamp")
    ring.create_pending("targets")
    assert [file.stem for file in key_files(stick) if file.pending] == ["targets"]


def test_a_key_that_the_root_does_not_name_does_not_sign(tmp_path: Path) -> None:
    ring = KeyRing((tmp_path,))
    ring.create("targets")
    other = KeyRing((tmp_path / "other",)).create("targets")
    with pytest.raises(ConfigurationError, match="0 found"):
        ring.signers(_root(targets=[other.public_key]), "targets")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    ring = KeyRing((tmp_path,))
    signer = ring.create("snapshot")
    (tmp_path / "snapshot.pem").chmod(mode)
    with pytest.raises(ConfigurationError, match=f"mode {mode:04o}") as caught:
        ring.signers(_root(snapshot=[signer.public_key]), "snapshot")
    assert "chmod 600" in caught.value.hint
    (finding,) = check_key_files(tmp_path)
    assert finding.path.name == "snapshot.pem"
    assert "chmod 600" in finding.remedy


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    ring = KeyRing((tmp_path,))
    signer = ring.create("targets")
    path = tmp_path / "targets.pem"
    rsa = generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for data in (b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", path.read_bytes()[:60], rsa):
        path.write_bytes(data)
        with pytest.raises(ConfigurationError, match="cannot be used"):
            ring.signers(_root(targets=[signer.public_key]), "targets")


def test_settling_promotes_what_the_root_names_and_drops_the_rest(tmp_path: Path) -> None:
    ring = KeyRing((tmp_path,))
    old = ring.create("targets")
    new = ring.create_pending("targets")
    ring.create_pending("snapshot")
    root = _root(targets=[new.public_key])
    assert ring.signers(root, "targets")[0].public_key == new.public_key
    assert len(ring.settle(root)) == 2
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.pem")) == [
        "retired/targets.until-root-4.pem",
        "targets.pem",
    ]
    assert ring.settle(root) == []
    assert KeyRing((tmp_path,)).signers(root, "targets")[0].public_key == new.public_key
    assert old.public_key.keyid not in root.roles["targets"].keyids
