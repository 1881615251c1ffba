"""What an edge was made from: edge.toml and the bundle that was carried here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge.paths import Paths
from edge.settings import Settings
from edge.store.faults import storage_faults
from manifests.bundle import Bundle, decode_bundle
from manifests.errors import ConfigurationError
from manifests.settings import load_settings


def read_settings(paths: Paths, env: Mapping[str, str]) -> Settings:
    """Read edge.toml with the environment on top.

    Raises:
        ConfigurationError: there is no edge, or a setting is wrong.
        StorageError: environment.
    """
    try:
        with storage_faults(f"reading {paths.settings.name}", f"读取 {paths.settings.name}"):
            if not paths.settings.exists():
                raise no_edge(paths.root, f"{paths.settings.name} is missing", f"缺少 {paths.settings.name}")
            text = paths.settings.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{paths.settings} is not UTF-8 text", zh=f"{paths.settings} 不是 UTF-8 文本"
        ) from error
    return load_settings(Settings, text, env, paths.settings.name)


def read_bundle(paths: Paths) -> Bundle:
    """Read the bundle that this edge was made from.

    Raises:
        ConfigurationError: it is missing or damaged.
        StorageError: environment.
    """
    with storage_faults(f"reading {paths.bundle.name}", f"读取 {paths.bundle.name}"):
        if not paths.bundle.exists():
            raise no_edge(paths.root, "identity/bundle.json is missing", "缺少 identity/bundle.json")
        return decode_bundle(paths.bundle.read_bytes())


def no_edge(root: Path, reason: str, reason_zh: str) -> ConfigurationError:
    """The error of a directory that is no edge."""
    return ConfigurationError(
        f"there is no edge in {root}: {reason}",
        zh=f"{root} 不是边缘服务器目录：{reason_zh}",
        hint="make one with `yuanjiao edge init DIR --bundle FILE`",
        hint_zh="请先运行 `yuanjiao edge init DIR --bundle FILE`",
    )
