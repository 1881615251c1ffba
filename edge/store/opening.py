"""Coming to a sound index: open it, or rebuild it from the disk when it is missing, damaged or of another generation.

Whoever writes holds `index.lock` shared for as long as it is open; whoever rebuilds holds it exclusively, because a
writer of the index that is set aside would delete the new one's WAL when it closes. Readers need no lock: they keep
the file that they have open and move to the new one when its inode changes.
"""

from __future__ import annotations

import structlog

from edge.paths import Paths
from edge.store.disk import remove_tree, replace_file
from edge.store.faults import storage_faults
from edge.store.index import Index
from edge.store.locks import FileLock
from edge.store.rebuild import rebuild
from edge.store.schema import LAYOUT_GENERATION
from manifests.errors import BusyError, ConfigurationError, StorageDamagedError

log = structlog.get_logger(__name__)


def open_index(paths: Paths, *, read_only: bool, wait_s: float) -> tuple[Index, FileLock | None]:
    """Open the index; for writing, the lock comes with it.

    Raises:
        BusyError: environment; it must be rebuilt, and another process has it open for writing.
        StorageError: environment; it can be neither opened nor rebuilt.
        ConfigurationError: the directory was laid out by another version of this program.
    """
    check_layout(paths, may_write=not read_only)
    if read_only:
        try:
            return Index.open(paths.index, paths.index_suspect, read_only=True), None
        except StorageDamagedError as error:
            log.warning("index_unsound", reason=str(error))
    return _open_locked(paths, read_only=read_only, wait_s=wait_s)


def check_layout(paths: Paths, *, may_write: bool) -> None:
    """Refuse a directory whose layout is of another generation; mark one that has none yet.

    Raises:
        ConfigurationError: laid out by another version of this program.
        StorageError: environment.
    """
    with storage_faults("reading the layout's generation", "读取目录布局版本"):
        text = paths.generation.read_text("ascii", "replace").strip() if paths.generation.exists() else ""
    if text.isdigit() and int(text) != LAYOUT_GENERATION:
        raise ConfigurationError(
            f"this edge's directory has layout generation {text}, this program knows {LAYOUT_GENERATION}",
            zh=f"本目录的布局版本为 {text}，当前程序仅支持 {LAYOUT_GENERATION}",
            hint="run the version of yuanjiao that made it, or newer",
            hint_zh="请使用创建该目录的版本或更新版本的 yuanjiao",
        )
    if not text.isdigit() and may_write:
        replace_file(paths.generation, f"{LAYOUT_GENERATION}\n".encode())


def check_one_disk(paths: Paths) -> None:
    """Refuse a directory whose folders lie on several disks: a file that is complete gets its name by a rename.

    Raises:
        ConfigurationError: such as when `blobs` alone was replaced by a link to a larger disk.
        OSError: environment; the caller maps it.
    """
    home = paths.blobs.stat().st_dev
    for path in (paths.partials, paths.tmp, paths.quarantine):
        if path.exists() and path.stat().st_dev != home:
            raise ConfigurationError(
                f"{path} lies on another disk than {paths.blobs}",
                zh=f"{path} 与 {paths.blobs} 不在同一磁盘",
                hint="move the whole directory of the edge to the larger disk, not one folder of it",
                hint_zh="请将整个边缘服务器目录迁移到大容量磁盘，不要只迁移其中一个文件夹",
            )


def _open_locked(paths: Paths, *, read_only: bool, wait_s: float) -> tuple[Index, FileLock | None]:
    lock = FileLock(paths.index_lock)
    try:
        alone = _is_alone(lock, wait_s)
        try:
            index = Index.open(paths.index, paths.index_suspect, read_only=read_only)
        except StorageDamagedError:
            if not alone:
                lock.acquire(exclusive=True, wait_s=wait_s)
            index = _rebuilt(paths, read_only=read_only)
            alone = True
        if alone:
            _tidy(paths)
        if read_only:
            lock.release()
            return index, None
        try:
            lock.acquire(exclusive=False, wait_s=wait_s)
        except BusyError:
            index.close()
            raise
    except BaseException:  # a lock kept after any failure would shut out the next attempt
        lock.release()
        raise
    return index, lock


def _is_alone(lock: FileLock, wait_s: float) -> bool:
    try:
        lock.acquire(exclusive=True)
    except BusyError:
        lock.acquire(exclusive=False, wait_s=wait_s)
        return False
    return True


def _rebuilt(paths: Paths, *, read_only: bool) -> Index:
    try:  # another process may have rebuilt it while this one waited for the lock
        return Index.open(paths.index, paths.index_suspect, read_only=read_only)
    except StorageDamagedError as error:
        with storage_faults("looking for blobs", "查找数据块"):
            paths.make()
            is_new = not paths.index.exists() and not any(paths.blobs.iterdir())
        if not is_new:
            log.warning("index_rebuild", reason=str(error))
    rebuild(paths)
    return Index.open(paths.index, paths.index_suspect, read_only=read_only)


def _tidy(paths: Paths) -> None:
    """Remove what a killed writer left; only while nobody else writes."""
    with storage_faults("clearing temporary files", "清理临时文件"):
        for path in paths.tmp.iterdir() if paths.tmp.exists() else ():
            remove_tree(path)
