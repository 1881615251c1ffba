"""Errors become one line and an exit status, in the reader's language."""

from __future__ import annotations

import errno

import pytest

from manifests import errors
from tools.output import Language, choose_language, error_line, exit_code_of


@pytest.mark.parametrize(
    ("env", "language"),
    [
        ({}, Language.ZH),
        ({"LANG": "C.UTF-8"}, Language.ZH),
        ({"LANG": "zh_CN.UTF-8"}, Language.ZH),
        ({"LANG": "en_US.UTF-8"}, Language.EN),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_GB.UTF-8"}, Language.EN),
        ({"LANG": "en_US.UTF-8", "YUANJIAO_LANG": "zh"}, Language.ZH),
        ({"LANG": "zh_CN.UTF-8", "YUANJIAO_LANG": "en"}, Language.EN),
    ],
)
def test_language(env: dict[str, str], language: Language) -> None:
    assert choose_language(env) is language


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), 2),
        (errors.InputError("x"), 2),
        (errors.NotFoundError("x"), 2),
        (errors.RollbackError("x"), 3),
        (errors.ExpiredError("x"), 3),
        (errors.StalledError("x"), 4),
        (errors.BusyError("x"), 4),
        (errors.StorageFullError("x"), 5),
        (errors.StorageDamagedError("x"), 5),
        (OSError(errno.ENOSPC, "No space left on device", "/d/x"), 5),
        (OSError(errno.EROFS, "Read-only file system", "/d/x"), 5),
        (PermissionError(errno.EACCES, "Permission denied", "/d/x"), 5),
        (OSError(errno.EADDRINUSE, "Address already in use"), 2),
        (ExceptionGroup("tasks", [ValueError("a"), ExceptionGroup("b", [errors.DigestError("x")])]), 3),
        (ExceptionGroup("tasks", [ValueError("a")]), 1),
        (RuntimeError("x"), 1),
        (KeyError("x"), 1),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code


def test_line_has_family_message_and_hint() -> None:
    error = errors.StorageFullError("no space for blob", zh="磁盘已满")
    assert error_line(error, Language.ZH) == (
        "错误 本地存储故障：磁盘已满。提示：请清理空间或增加磁盘后重新运行，将从中断处继续"
    )
    english = error_line(error, Language.EN)
    assert english.startswith("error: local storage: no space for blob. Hint: free space")


def test_line_is_one_line_whatever_the_message() -> None:
    for language in Language:
        line = error_line(RuntimeError("a\nb\r\nc" + "x" * 9000), language)
        assert "\n" not in line
        assert len(line) <= 2000
