"""Whether an upload is let in: pure, so that every limit can be tried without a disk that is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from manifests.words import show_bytes

Verdict = Literal["admitted", "empty", "too-long", "quota", "too-many", "disk"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings allow.

    Attributes:
        file_bytes: one file.
        account_bytes: all files of one account.
        account_files: how many files one account has at a time.
        floor_bytes: of the disk stay free.
    """

    file_bytes: int
    account_bytes: int
    account_files: int
    floor_bytes: int


@dataclass(frozen=True, slots=True)
class Held:
    """What there is already.

    Attributes:
        files: of the account.
        account_bytes: declared by the account's files.
        promised_bytes: declared by everybody's files and not yet here: they will come.
        free_bytes: on the disk now.
    """

    files: int
    account_bytes: int
    promised_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class AdmissionPlan:
    """The verdict, with its reason in both languages when it is a refusal."""

    verdict: Verdict
    reason: str = ""
    reason_zh: str = ""


def plan_admission(size_bytes: int, held: Held, limits: Limits) -> AdmissionPlan:
    """Decide whether a file of this size may come in."""
    size = show_bytes(size_bytes)
    if size_bytes < 1:
        return AdmissionPlan("empty", "the file is empty", "文件是空的（0 字节）")
    if size_bytes > limits.file_bytes:
        most = show_bytes(limits.file_bytes)
        return AdmissionPlan(
            "too-long",
            f"a file of {size} is refused: at most {most}",
            f"文件过大（{size}），单个文件最多 {most}",
        )
    if held.files >= limits.account_files:
        return AdmissionPlan(
            "too-many",
            f"{held.files} uploads are enough",
            f"上传文件数已达上限（{limits.account_files} 个），请先删除不用的文件",
        )
    if held.account_bytes + size_bytes > limits.account_bytes:
        left = show_bytes(max(0, limits.account_bytes - held.account_bytes))
        return AdmissionPlan(
            "quota",
            f"a file of {size} is beyond your quota: {left} of {show_bytes(limits.account_bytes)} are left",
            f"超出上传配额：文件 {size}，剩余 {left}（共 {show_bytes(limits.account_bytes)}）",
        )
    if held.free_bytes - held.promised_bytes - size_bytes < limits.floor_bytes:
        return AdmissionPlan(
            "disk",
            "the origin's disk has no room for the file",
            "源站磁盘空间不足，暂时无法接收该文件",
        )
    return AdmissionPlan("admitted")
