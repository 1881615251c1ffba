"""Error families. A family is a reaction, not a place.

Content not trusted: other source and alarm. Transfer failed: retry with a limit. Storage: stop writing, keep
serving. Configuration: refuse to start. Each class carries its exit code, whether a retry can help, the HTTP
status a server gives for it, and a default hint in Chinese and English that says what to do.
"""

from __future__ import annotations

from typing import ClassVar


class YuanjiaoError(Exception):
    """Parent of all errors of this project; raised only through a family below.

    Args:
        message: What happened and to what, in English, one line.
        zh: The same in Chinese, for people; the English text stands in when it is empty.
        hint: What to do; the family's own hint stands in when it is empty.
        hint_zh: The same in Chinese.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    http_status: ClassVar[int] = 500
    family: ClassVar[str] = "internal error"
    family_zh: ClassVar[str] = "内部错误"
    default_hint: ClassVar[str] = "run again with --debug and report the traceback"
    default_hint_zh: ClassVar[str] = "请加 --debug 重新运行并上报错误信息"

    def __init__(self, message: str, *, zh: str = "", hint: str = "", hint_zh: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.zh = zh or message
        self.hint = hint or self.default_hint
        self.hint_zh = hint_zh or (hint or self.default_hint_zh)


class ConfigurationError(YuanjiaoError):
    """A setting, a bundle or a directory is not what this program can start with."""

    exit_code = 2
    family = "configuration"
    family_zh = "配置错误"
    default_hint = "correct the configuration and start again"
    default_hint_zh = "请改正配置后重新启动"


class InputError(YuanjiaoError):
    """What a person handed in (a file, a title, a code) is refused; nothing was changed."""

    exit_code = 2
    http_status = 400
    family = "refused input"
    family_zh = "输入有误"
    default_hint = "correct the input and try again; nothing was changed"
    default_hint_zh = "请改正后重试，未做任何改动"


class NotFoundError(InputError):
    """The named thing does not exist here."""

    http_status = 404
    family = "not found"
    family_zh = "未找到"


class SignInError(InputError):
    """Nobody is signed in, or the name, password, code or link is not right; which of them is not said."""

    http_status = 401
    family = "not signed in"
    family_zh = "未登录"
    default_hint = "sign in again"
    default_hint_zh = "请重新登录"


class DeniedError(InputError):
    """Whoever is signed in may not do this here; nothing was changed."""

    http_status = 403
    family = "not allowed"
    family_zh = "没有权限"
    default_hint = "ask an administrator of your region"
    default_hint_zh = "如有需要，请联系所在地区的管理员"


class UntrustedError(YuanjiaoError):
    """Content that is not what the province signed. Never retried on the same source; always an alarm."""

    exit_code = 3
    http_status = 502
    family = "content not trusted"
    family_zh = "内容不可信"
    default_hint = "what was proved keeps playing; try another upstream and tell the province"
    default_hint_zh = "已验证的课件照常播放；请换用其他上游并上报省级源站"


class DigestError(UntrustedError):
    """Bytes do not have the digest or size that was promised for them."""


class SignatureError(UntrustedError):
    """A signature is missing, wrong, or made by a key that is not (or no longer) trusted."""


class RollbackError(UntrustedError):
    """An older or mixed release was offered."""


class ExpiredError(UntrustedError):
    """Signed metadata is past its expiry at the trusted time."""


class FormatError(UntrustedError):
    """A document does not follow FORMAT.md, or passes one of its limits."""


class TransferError(YuanjiaoError):
    """An upstream could not be reached, or broke off, or answered with something else. Try later."""

    exit_code = 4
    retryable = True
    http_status = 503
    family = "transfer failed"
    family_zh = "传输失败"
    default_hint = "check the line and the upstream, then try again; nothing that was proved is lost"
    default_hint_zh = "请检查线路和上游后重试，已验证的内容不会丢失"


class StalledError(TransferError):
    """No progress within the deadline."""


class BusyError(TransferError):
    """Another process holds the lock for this work."""

    family = "busy"
    family_zh = "正在被占用"
    default_hint = "wait until the other run ends, then try again"
    default_hint_zh = "请等待另一个任务结束后重试"


class ThrottledError(BusyError):
    """Too many failures; the next attempt is looked at after `wait_s` seconds."""

    http_status = 429
    family = "too many attempts"
    family_zh = "尝试过于频繁"

    def __init__(self, wait_s: int) -> None:
        super().__init__(
            f"too many attempts: wait {wait_s} s",
            zh=f"尝试次数过多，请在 {wait_s} 秒后重试",
            hint="wait, then try again; an administrator can reset a forgotten password",
            hint_zh="请稍候再试；忘记密码时可请管理员重置",
        )
        self.wait_s = wait_s


class StorageError(YuanjiaoError):
    """Local storage cannot be written or read. Writing stops, serving goes on."""

    exit_code = 5
    http_status = 507
    family = "local storage"
    family_zh = "本地存储故障"
    default_hint = "check the disk: space, permissions, health"
    default_hint_zh = "请检查磁盘空间、权限和健康状况"


class StorageFullError(StorageError):
    """No space is left where bytes should go."""

    default_hint = "free space or add a disk, then run again; it resumes where it stopped"
    default_hint_zh = "请清理空间或增加磁盘后重新运行，将从中断处继续"


class StorageDamagedError(StorageError):
    """Stored bytes are not what was stored."""

    http_status = 503
    default_hint = "run `yuanjiao edge scrub DIR --repair`; replace the disk if it happens again"
    default_hint_zh = "请运行 `yuanjiao edge scrub DIR --repair`；若再次出现请更换磁盘"


class ObjectStorageError(StorageError):
    """The object store that blobs are kept in could not be reached, or refused. Nothing that it holds is lost."""

    retryable = True
    http_status = 503
    family = "object storage"
    family_zh = "对象存储故障"
    default_hint = "check the object store and the line to it, then try again; a broken-off upload goes on"
    default_hint_zh = "请检查对象存储服务及其网络后重试，中断的上传会继续"
