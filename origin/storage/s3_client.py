"""The way to an object store: whose account, one client, and its faults in this project's words.

boto3 blocks, so its calls run on a few threads of their own; a call that finds all of them taken waits in the loop,
with a deadline, and not in a queue without an end. Checksums beyond the signature are asked for only where the
protocol wants them: several stores refuse the newer ones. Each body is signed, so a part that was garbled on the way is
refused by the store itself.
"""

from __future__ import annotations

import asyncio
import stat
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, TypeVar

from manifests.errors import ConfigurationError, ObjectStorageError, StorageFullError

T = TypeVar("T")

LEAST_PART_BYTES: Final = 5 * 1024 * 1024  # of the protocol, for all parts but the last
MOST_PARTS: Final = 10_000  # likewise

_FULL: Final = frozenset({"QuotaExceeded", "InsufficientCapacity", "InsufficientStorage", "EntityTooLarge"})
_REFUSED: Final = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "403"}
)


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where the bucket is and how it is spoken to.

    Attributes:
        prefix: stands before every key, such as `henan/`.
        endpoint: base address; empty for Amazon's own.
        addressing: whether the bucket stands in the path or in the host name.
        profile: of the account's usual configuration files; empty for the environment's.
        credentials: a TOML file with `access_key` and `secret_key`, readable to its owner only.
        part_bytes: longer blobs are uploaded in parts of so many bytes.
        threads: calls at a time.
        deadline_s: one call, or one portion of a blob, may take so long.
        attempts: of one call, the first included.
        stale_days: an upload that nobody finished is given up after so many days.
        redirect_s: addresses that anybody may read a blob under are good for so long; 0: none are given.
        redirect_endpoint: base address of the store as readers reach it; empty: `endpoint`.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    addressing: Literal["auto", "path", "virtual"] = "auto"
    profile: str = ""
    credentials: Path | None = None
    part_bytes: int = 16 * 1024 * 1024
    threads: int = 8
    deadline_s: float = 60.0
    attempts: int = 4
    stale_days: int = 7
    redirect_s: int = 0
    redirect_endpoint: str = ""


def connect(options: S3Options) -> Any:
    """Make a client. Blocking for about a second: it reads the description of the whole protocol.

    Raises:
        ConfigurationError: environment; no such profile, or the credentials' file is refused.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": options.addressing, "payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=min(10.0, options.deadline_s),
        read_timeout=options.deadline_s,
        retries={"mode": "standard", "total_max_attempts": options.attempts},
        max_pool_connections=options.threads,
    )
    try:
        session = boto3.session.Session(
            profile_name=options.profile or None,
            region_name=options.region,
            **(_read_credentials(options.credentials) if options.credentials else {}),
        )
        return session.client("s3", endpoint_url=options.endpoint or None, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"the object store's settings are refused: {error}", zh=f"对象存储的配置有误：{error}"
        ) from error


def _read_credentials(path: Path) -> dict[str, str]:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigurationError(
                f"{path} may be read by others than its owner",
                zh=f"{path} 的权限过宽，其他用户可以读取",
                hint=f"chmod 600 {path}",
                hint_zh=f"请执行 chmod 600 {path}",
            )
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        names = {"access_key": "aws_access_key_id", "secret_key": "aws_secret_access_key"}
        found = {ours: str(document[name]) for name, ours in names.items()}
        if "session_token" in document:
            found["aws_session_token"] = str(document["session_token"])
    except (OSError, KeyError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        # The cause may quote a line of the file, so it is not repeated.
        raise ConfigurationError(
            f"{path} cannot be used: it must be a TOML file with access_key and secret_key",
            zh=f"{path} 无法使用，应为包含 access_key 和 secret_key 的 TOML 文件",
        ) from error
    return found


class Calls:
    """Runs the client's calls on a few threads."""

    def __init__(self, options: S3Options, make: Callable[[S3Options], Any] = connect) -> None:
        self._options = options
        self._make = make
        self._client: Any = None
        self._making = Lock()
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="s3")
        self._free = asyncio.Semaphore(options.threads)

    async def start(self, work: Callable[[Any], T], what: str) -> asyncio.Future[T]:
        """Begin a call on a free thread; it is given the client.

        Raises:
            ObjectStorageError: environment; every thread stayed busy for two deadlines.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(2 * self._options.deadline_s):
                await self._free.acquire()
        except TimeoutError as error:
            raise ObjectStorageError(
                f"{what}: all connections are busy", zh=f"{what}：对象存储连接全部被占用"
            ) from error

        def call() -> T:
            with object_faults(what):
                return work(self._made())

        begun = self._threads.submit(call)
        begun.add_done_callback(lambda _: self._give_back(loop))
        return asyncio.wrap_future(begun)

    async def run(self, work: Callable[[Any], T], what: str) -> T:
        """Begin a call and wait for it. When the caller is cancelled, the thread ends by its own deadline."""
        return await (await self.start(work, what))

    async def aclose(self) -> None:
        """Wait until all threads have ended."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    def _made(self) -> Any:
        with self._making:
            if self._client is None:
                self._client = self._make(self._options)
            return self._client

    def _give_back(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits for a thread any more
            loop.call_soon_threadsafe(self._free.release)


def code_of(error: Exception) -> str:
    """The store's word for what is wrong; empty when the fault is not an answer of it."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    return str(response.get("Error", {}).get("Code", ""))


def is_absent(error: Exception) -> bool:
    """Whether a fault says that there is no such object."""
    return code_of(error) in {"NoSuchKey", "NotFound", "404"}


@contextmanager
def object_faults(what: str) -> Iterator[None]:
    """Put the client's faults into this project's families; `what` names the act.

    Raises:
        StorageFullError: environment; the account's quota is used up.
        ObjectStorageError: environment; unreachable, or refused.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.exceptions import HTTPClientError as Wire

    try:
        yield
    except ClientError as error:
        raise _refusal(error, what) from error
    except (BotoCoreError, Wire) as error:
        reason = " ".join(str(error).split())[:300]
        raise ObjectStorageError(f"{what}: {reason}", zh=f"{what}：对象存储不可用({reason})") from error


def _refusal(error: Exception, what: str) -> Exception:
    code, reason = code_of(error), " ".join(str(error).split())[:300]
    if code in _FULL:
        return StorageFullError(f"{what}: {reason}", zh=f"{what}：对象存储空间不足或超出配额({code})")
    if code == "NoSuchBucket":
        return ObjectStorageError(
            f"{what}: {reason}",
            zh=f"{what}：存储桶不存在",
            hint="make the bucket, or correct storage.bucket",
            hint_zh="请创建存储桶，或改正 storage.bucket",
        )
    if code in _REFUSED:
        return ObjectStorageError(
            f"{what}: {reason}",
            zh=f"{what}：对象存储拒绝访问({code})",
            hint="check the access key, its rights on the bucket, and this machine's clock",
            hint_zh="请检查访问密钥、对存储桶的权限以及本机时钟",
        )
    return ObjectStorageError(f"{what}: {reason}", zh=f"{what}：对象存储返回错误({code})")
