"""The edge's own key pair: carried here in a bundle or made here, checked before it is kept."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from edge.paths import Paths
from edge.store.disk import sync_dir, write_at
from manifests.bundle import Identity
from manifests.digests import digest_of
from manifests.errors import ConfigurationError

_NEW_BUNDLE = ("ask the province for a new one (`yuanjiao origin enroll`)", "请向省级源站索取新的开通文件")


def check_identity(carried: Identity | None) -> None:
    """Check that a bundle's key pair is one.

    Raises:
        ConfigurationError: bad data; what is carried is no Ed25519 key, or its two halves do not belong together.
    """
    if carried is None or not carried.private_key:
        return
    try:
        public = _public_of(carried.private_key.encode())
    except ValueError as error:
        raise ConfigurationError(
            f"the bundle's private key cannot be used: {error}",
            zh="开通文件中的私钥不可用",
            hint=_NEW_BUNDLE[0],
            hint_zh=_NEW_BUNDLE[1],
        ) from error
    if public.hex() != carried.public_key:
        raise ConfigurationError(
            "the bundle's private key and public key do not belong together",
            zh="开通文件中的私钥与公钥不匹配",
            hint=_NEW_BUNDLE[0],
            hint_zh=_NEW_BUNDLE[1],
        )


def keep_identity(paths: Paths, carried: Identity | None) -> Identity:
    """Write a carried private key into its own file, or make one; a key that is here already stays.

    Returns:
        The public half.

    Raises:
        ConfigurationError: environment; the key that is here cannot be read.
        OSError: environment; the caller maps it.
    """
    if carried is not None and carried.private_key:
        _write_key(paths.key, carried.private_key.encode())
        return msgspec.structs.replace(carried, private_key="")
    if not paths.key.exists():
        made = Ed25519PrivateKey.generate()
        _write_key(paths.key, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return read_identity(paths)


def read_identity(paths: Paths) -> Identity:
    """The public half of the key that is kept here.

    Raises:
        ConfigurationError: environment; it cannot be read as a key.
        OSError: environment; the caller maps it.
    """
    try:
        public = _public_of(paths.key.read_bytes())
    except ValueError as error:
        raise ConfigurationError(
            f"identity/key.pem cannot be read: {error}",
            zh="identity/key.pem 不是可用的密钥",
            hint="remove it and run init again with a new bundle",
            hint_zh="请删除该文件，并用新的开通文件重新初始化",
        ) from error
    return Identity(digest_of(public)[:16], public.hex(), "")


def _public_of(pem: bytes) -> bytes:
    """The raw public key of a private one; ValueError for all that is no Ed25519 private key."""
    try:
        key = load_pem_private_key(pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("it is no Ed25519 key")  # noqa: TRY004 - the data is wrong, not the caller
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _write_key(path: Path, pem: bytes) -> None:
    """Write the key so that at no moment anybody else can read it."""
    temporary = path.with_name(f".{path.name}.tmp")
    with suppress(FileNotFoundError):
        temporary.unlink()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_at(fd, pem, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    sync_dir(path.parent)
