"""Make an edge from a bundle."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import structlog

from edge.clock import Clock
from edge.paths import Paths
from edge.settings import Settings
from edge.store.blobs import BlobStore
from edge.store.configuration import no_edge
from edge.store.disk import replace_file
from edge.store.faults import storage_faults
from edge.sync.identity import check_identity, keep_identity
from manifests.bundle import Bundle, decode_bundle, encode_bundle
from manifests.errors import ConfigurationError, UntrustedError
from manifests.instants import dump_instant, parse_instant
from manifests.settings import rows_of

_log = structlog.get_logger(__name__)

_HEAD = """\
# Settings of this edge server. Each line shows a default; remove the # to change it.
# 本边缘服务器的配置：每行为默认值，去掉行首 # 后修改即可。
"""


def init_edge(root: Path, bundle: bytes, clock: Clock) -> Bundle:
    """Make an edge in `root`, or give an edge there a newer bundle of the same county.

    Args:
        root: its directory; made when absent.
        bundle: the file that was carried here.
        clock: only to warn when this machine runs behind the bundle's making.

    Returns:
        The bundle, without the private key.

    Raises:
        ConfigurationError: the bundle cannot start an edge, or `root` is another edge or something else.
        StorageError: environment.
    """
    fresh = decode_bundle(bundle)
    _check_root(fresh)
    check_identity(fresh.identity)
    paths = Paths(root)
    _check_place(paths, fresh)
    if clock() < parse_instant(fresh.issued):
        _log.warning("clock is behind the bundle", clock=dump_instant(clock()), issued=fresh.issued)
    with storage_faults(f"making an edge in {root}", f"在 {root} 建立边缘服务器"):
        paths.make()
        identity = keep_identity(paths, fresh.identity)
    kept = msgspec.structs.replace(fresh, identity=identity)
    replace_file(paths.bundle, encode_bundle(kept))
    BlobStore.open(paths).close()
    if not paths.settings.exists():
        # Last: its presence marks the directory as an edge.
        replace_file(paths.settings, _default_settings().encode())
    return kept


def _check_root(bundle: Bundle) -> None:
    from edge.sync.verify import check_bootstrap

    try:
        with tempfile.TemporaryDirectory(prefix="yuanjiao-") as scratch:
            check_bootstrap(Path(scratch), bundle.root.encode())
    except UntrustedError as error:
        raise ConfigurationError(
            f"the bundle's root of trust cannot start an edge: {error.message}",
            zh=f"开通文件中的信任根不可用：{error.zh}",
            hint="ask the province for a new one (`yuanjiao origin enroll`)",
            hint_zh="请向省级源站索取新的开通文件（`yuanjiao origin enroll`）",
        ) from error


def _check_place(paths: Paths, fresh: Bundle) -> None:
    with storage_faults(f"looking at {paths.root}", f"查看 {paths.root}"):
        if paths.root.exists() and not paths.root.is_dir():
            raise no_edge(paths.root, "it is a file", "这是一个文件")
        if paths.bundle.exists():
            old = decode_bundle(paths.bundle.read_bytes())
            if (old.publisher, old.region) != (fresh.publisher, fresh.region):
                raise ConfigurationError(
                    f"{paths.root} is the edge of region {old.region} under {old.publisher} already; "
                    f"this bundle is for {fresh.region} under {fresh.publisher}",
                    zh=f"{paths.root} 已是 {old.region}（发布者 {old.publisher}）的边缘服务器，"
                    f"而该开通文件属于 {fresh.region}（发布者 {fresh.publisher}）",
                    hint="make the other edge in another directory",
                    hint_zh="请为另一台边缘服务器使用其他目录",
                )
            _check_chain(paths, old, fresh)
        elif not paths.settings.exists() and paths.root.is_dir() and not _is_empty(paths.root):
            raise ConfigurationError(
                f"{paths.root} is not empty and not an edge",
                zh=f"{paths.root} 不是空目录，也不是边缘服务器目录",
                hint="choose an empty or new directory",
                hint_zh="请选择空目录或新目录",
            )


def _check_chain(paths: Paths, old: Bundle, fresh: Bundle) -> None:
    """Refuse a root that no root of this edge vouches for: a stranger's bundle must not take an edge over."""
    from edge.sync.verify import is_same_chain

    held = [old.root.encode(), *(path.read_bytes() for path in sorted((paths.trust / "root_history").glob("*.json")))]
    if not is_same_chain(held, fresh.root.encode()):
        raise ConfigurationError(
            f"the bundle's root of trust does not follow from the one that {paths.root} trusts",
            zh=f"开通文件中的信任根与 {paths.root} 现有的信任根不属于同一来源",
            hint="sync once and try again; if the province itself says that its root was made anew, remove "
            "identity/bundle.json and trust/ here first: what was proved stays",
            hint_zh="请先同步一次再试；如省级源站确认已重建信任根，请先删除本机的 identity/bundle.json 和 trust/，"
            "已验证的课件不受影响",
        )


def _is_empty(root: Path) -> bool:
    """Tell whether nobody's files are there; the root of an ext4 file system has a folder of its own."""
    return all(path.name == "lost+found" for path in root.iterdir())


def _default_settings() -> str:
    lines = [_HEAD]
    section = ""
    for one in rows_of(Settings):
        head, _, key = one.name.partition(".")
        if head != section:
            section = head
            lines.append(f"\n[{section}]\n")
        unit = f" [{one.unit}]" if one.unit else ""
        lines.append(f"# {one.help_zh} / {one.help_en}{unit}\n# {key} = {_toml(one.default)}\n")
    return "".join(lines)


def _toml(value: object) -> str:
    # JSON's strings, numbers, booleans and lists of strings are written the same way in TOML.
    return msgspec.json.encode(value).decode()
