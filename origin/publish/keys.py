"""Private keys of the four roles and of cities: one PKCS#8 PEM file each, readable by its owner only.

Root and targets, which people use, may be under a passphrase. Snapshot and timestamp never are: the server signs with
them every hour, unattended, and a passphrase that lies beside them in its environment would protect nothing.

Names: `root.pem`, `root-2.pem`, … `targets.pem`, `snapshot.pem`, `timestamp.pem`, `cities-410100.pem`. A key that a
rotation made and that is not yet in its place is `STEM.<key id, 16 digits>.next.pem`. What a file is called is only
where to look: whether a key may sign is decided by its key id standing in the root metadata, or for a city in the
targets.

Directories may be several, so that root and targets can lie on a medium that is in a drawer most of the time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, Targets

from manifests.cities import city_of_role
from manifests.errors import ConfigurationError
from origin.publish.failpoints import reach
from origin.publish.files import write_durably
from origin.storage.faults import storage_faults
from origin.storage.local import fsync_directory

ROLES: Final = ("root", "targets", "snapshot", "timestamp")
_UNATTENDED: Final = frozenset({"snapshot", "timestamp"})
RETIRED: Final = "retired"
_PRIVATE: Final = 0o600
_NAME = re.compile(
    r"(root|targets|snapshot|timestamp|cities-[1-9]\d{5})(-[2-9]|-[1-9]\d)?(?:\.([0-9a-f]{16})\.next)?\.pem"
)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file whose name says that it holds a private key; `pending` is a key id's first 16 digits, or empty."""

    path: Path
    role: str
    stem: str
    pending: str


@dataclass(frozen=True, slots=True)
class KeyFinding:
    """Something wrong with a key file, and what to do about it."""

    path: Path
    problem: str
    problem_zh: str
    remedy: str
    remedy_zh: str


def stems(role: str, count: int) -> tuple[str, ...]:
    """File stems of a role's keys: `root`, `root-2`, `root-3`."""
    return (role, *(f"{role}-{n}" for n in range(2, count + 1)))


class KeyRing:
    """The private keys that can be reached now.

    Args:
        directories: where key files may lie; new ones go beside those of their role, else into the first.
        passphrase: for key files that are encrypted; also encrypts new ones of root and targets.
    """

    def __init__(self, directories: Sequence[Path], passphrase: str | None = None) -> None:
        self._directories = tuple(directories)
        self._passphrase = passphrase.encode() if passphrase else None

    def create(self, stem: str) -> CryptoSigner:
        """Make a key; one that is already there under this name is kept and used (an init that was cut off).

        Raises:
            ConfigurationError: environment; the file that is there cannot be used.
            StorageError: environment.
        """
        for file in self._files():
            if file.stem == stem and not file.pending:
                return self._load(file.path)
        signer = CryptoSigner.generate_ed25519()
        self._write(self._directories[0] / f"{stem}.pem", signer)
        return signer

    def create_pending(self, stem: str) -> CryptoSigner:
        """Make the key that will follow the one called `stem`; nothing trusts it yet.

        Raises:
            StorageError: environment.
        """
        signer = CryptoSigner.generate_ed25519()
        # A lost root key's successor belongs on the medium of the other root keys, not on the server's disk.
        role = stem if city_of_role(stem) else stem.partition("-")[0]
        near = sorted((file.stem != stem, n) for n, file in enumerate(self._files()) if file.role == role)
        directory = list(self._files())[near[0][1]].path.parent if near else self._directories[0]
        self._write(directory / f"{stem}.{signer.public_key.keyid[:16]}.next.pem", signer)
        return signer

    def signers(self, above: Root | Targets, role: str) -> list[CryptoSigner]:
        """The keys here that the root, or the targets over a city, let sign for `role`: as many as its threshold.

        Raises:
            ConfigurationError: environment; too few are here, or a file cannot be used. The message names the file.
        """
        trusted = above.get_delegated_role(role).keyids
        found: dict[str, CryptoSigner] = {}
        for file in self._files():
            if file.role != role or (file.pending and not any(one.startswith(file.pending) for one in trusted)):
                continue
            signer = self._load(file.path)
            if signer.public_key.keyid in trusted:
                found[signer.public_key.keyid] = signer
        needed = above.get_delegated_role(role).threshold
        if len(found) < needed:
            raise self._too_few(role, len(trusted), len(found), needed)
        return list(found.values())

    def settle(self, root: Root, cities: Mapping[str, Collection[str]] | None = None) -> list[str]:
        """Bring the files of a rotation that was cut off to where the served metadata say they belong.

        A pending key that they name takes its place, the one before it goes to `retired/`; a pending key that
        they do not name was never trusted by anybody and is deleted.

        Args:
            root: the newest.
            cities: key ids of each city's role.

        Returns:
            What was done, one line each.

        Raises:
            StorageError: environment.
        """
        done: list[str] = []
        for file in [file for file in self._files() if file.pending]:
            with storage_faults(f"settling {file.path.name}"):
                trusted = (cities or {}).get(file.role, ()) if city_of_role(file.role) else root.roles[file.role].keyids
                if any(keyid.startswith(file.pending) for keyid in trusted):
                    _promote(file, root.version)
                    done.append(f"key {file.stem} is now {file.pending}")
                else:
                    file.path.unlink()
                    done.append(f"key {file.pending} for {file.stem} was never trusted and is deleted")
                fsync_directory(file.path.parent)
        return done

    def _files(self) -> Iterator[KeyFile]:
        for directory in self._directories:
            yield from key_files(directory)

    def _write(self, path: Path, signer: CryptoSigner) -> None:
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if self._passphrase and path.name.partition(".")[0] not in _UNATTENDED:
            encryption = serialization.BestAvailableEncryption(self._passphrase)
        plain = serialization.load_pem_private_key(signer.private_bytes, None)
        data = plain.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        with storage_faults(f"making {path.parent}"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, data, mode=_PRIVATE)

    def _load(self, path: Path) -> CryptoSigner:
        _refuse_shared(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error
        encrypted = b"ENCRYPTED" in data[:64]
        if encrypted and self._passphrase is None:
            raise ConfigurationError(
                f"key file {path} is encrypted and no passphrase was given",
                zh=f"密钥文件 {path} 已加密，但未提供口令",
                hint="give the passphrase at the prompt or in YUANJIAO_KEYS_PASSPHRASE",
                hint_zh="请在提示时输入口令，或设置环境变量 YUANJIAO_KEYS_PASSPHRASE",
            )
        try:
            key = serialization.load_pem_private_key(data, self._passphrase if encrypted else None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            if encrypted:
                raise ConfigurationError(
                    f"key file {path} does not open with this passphrase",
                    zh=f"口令不正确，无法打开密钥文件 {path}",
                    hint="check the passphrase",
                    hint_zh="请核对口令",
                ) from error
            raise _unusable(path, "it holds no private key in PEM form") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _unusable(path, "it is not an Ed25519 key")
        return CryptoSigner(key)

    def _too_few(self, role: str, known: int, found: int, needed: int) -> ConfigurationError:
        here = {file.path.name for file in self._files()}
        names = [f"{stem}.pem" for stem in stems(role, known)]
        missing = [name for name in names if name not in here] or names
        where = ", ".join(str(directory) for directory in self._directories)
        listed = ", ".join(missing)
        return ConfigurationError(
            f"{role} needs {needed} key(s) that the root metadata names, {found} found in {where}: missing {listed}",
            zh=f"{role} 需要 {needed} 个受信任的密钥，在 {where} 中找到 {found} 个，缺少 {listed}",
            hint=f"bring the medium that holds {listed} and name its directory as the keys directory",
            hint_zh=f"请接入存有 {listed} 的介质，并将其目录指定为密钥目录",
        )


def key_files(directory: Path) -> list[KeyFile]:
    """Key files in a directory, by name; a directory that is absent (an unplugged medium) has none."""
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError:
        return []
    found = [(name, match) for name in names if (match := _NAME.fullmatch(name))]
    return [KeyFile(directory / name, m[1], m[1] + (m[2] or ""), m[3] or "") for name, m in found]


def check_key_files(directory: Path) -> list[KeyFinding]:
    """Examine owner's rights of the key files and their directory without opening any; for doctor."""
    found = []
    for path in [file.path for file in key_files(directory)] + sorted((directory / RETIRED).glob("*.pem")):
        try:
            _refuse_shared(path)
        except ConfigurationError as error:
            found.append(KeyFinding(path, error.message, error.zh, error.hint, error.hint_zh))
    return found


def _promote(file: KeyFile, root_version: int) -> None:
    place = file.path.with_name(f"{file.stem}.pem")
    if place.exists():
        retired = file.path.parent / RETIRED
        retired.mkdir(mode=0o700, exist_ok=True)
        # A city's key changes without the root: the key that follows it says until when it was.
        until = file.pending if city_of_role(file.role) else f"root-{root_version}"
        place.rename(retired / f"{file.stem}.until-{until}.pem")
        fsync_directory(retired)
        reach("rotate:key-retired")
    file.path.rename(place)


def _refuse_shared(path: Path) -> None:
    try:
        mode = path.stat().st_mode & 0o777
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    if mode & 0o077:
        raise ConfigurationError(
            f"key file {path} can be read by others (mode {mode:04o})",
            zh=f"密钥文件 {path} 可被其他用户读取（权限 {mode:04o}）",
            hint=f"chmod 600 {path}; on a FAT medium mount it with umask=077. Rotate the key if others had access",
            hint_zh=f"请执行 chmod 600 {path};FAT 介质请以 umask=077 挂载；如他人可能已读取，请更换该密钥",
        )


def _unusable(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"key file {path} cannot be used: {reason}",
        zh=f"密钥文件 {path} 无法使用：{reason}",
        hint="restore the key file from its backup, or rotate this role's key",
        hint_zh="请从备份恢复密钥文件，或更换该角色的密钥",
    )
