"""Names from outside, validated before they touch a path, a query or a page.

Rules live here and nowhere else. A name that is refused is refused whole: nothing is silently mended, except that
text is brought to Unicode NFC, because two spellings of one name must not become two names.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NewType

from manifests.errors import InputError

CoursewareId = NewType("CoursewareId", str)
Region = NewType("Region", str)

MAX_FILE_NAME_BYTES = 200  # leaves room below the 255 of ext4 for a suffix of our own
MAX_TITLE_CHARS = 200
MAX_SUMMARY_CHARS = 4000
MAX_REASON_CHARS = 500

_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_REGION = re.compile(r"[1-9][0-9]{5}")
_METADATA = re.compile(
    r"(?:(?:[1-9][0-9]{0,8})\.)?(?:root|targets|snapshot|cities-[1-9][0-9](?!00)[0-9]{2}00)\.json|timestamp\.json"
)
_RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?")
_FORBIDDEN = frozenset('<>:"/\\|?*')
# Nearly all names are of these characters only, about which no further question is open: the rest of the check takes
# ten times as long, which counts for a catalog of 50,000 courseware. 66 of them are at most 198 bytes.
_PLAIN_NAME = re.compile(
    r"[0-9A-Za-z_\u4e00-\u9fa5-]([0-9A-Za-z_\u4e00-\u9fa5 .()-]{0,64}[0-9A-Za-z_\u4e00-\u9fa5)-])?"
)
# Explicit direction marks reorder what a person reads (UAX #9); none is needed in Chinese or Latin names.
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Not "Cn" (unassigned): that differs between versions of Python, and a name that the origin's takes, the edge's must.
_UNSEEN = frozenset({"Cc", "Cs", "Co", "Zl", "Zp"})
# Scripts whose letters pass for Latin ones (UTS #39 section 5.1); mixed with Latin they are a disguise.
_LOOKALIKE = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU", "DESERET")


def parse_courseware_id(text: str) -> CoursewareId:
    """Check a courseware id: 1–64 of a–z, 0–9, dot, hyphen, underscore; a letter or digit at both ends.

    Raises:
        InputError: bad data.
    """
    if not _ID.fullmatch(text) or ".." in text or _RESERVED.fullmatch(text):
        raise InputError(
            f"courseware id {text[:80]!r} is refused: 1-64 of a-z 0-9 . _ -, a letter or digit at both ends",
            zh=f"课件编号 {text[:80]!r} 不合规：1–64 位小写字母、数字、点、横线或下划线，首尾须为字母或数字",
        )
    return CoursewareId(text)


def parse_region(text: str) -> Region:
    """Check a GB/T 2260 code of six digits.

    Raises:
        InputError: bad data.
    """
    if not _REGION.fullmatch(text):
        raise InputError(
            f"region code {text[:20]!r} is refused: six digits of GB/T 2260, such as 410122",
            zh=f"行政区划代码 {text[:20]!r} 不合规：应为六位数字，例如 410122",
        )
    return Region(text)


def region_level(region: Region) -> str:
    """`province`, `city` or `county`, read off the trailing zeros."""
    if region.endswith("0000"):
        return "province"
    return "city" if region.endswith("00") else "county"


def is_within(region: Region, area: Region) -> bool:
    """Tell whether `region` is `area` or lies inside it."""
    return region.startswith({"province": area[:2], "city": area[:4]}.get(region_level(area), area))


def is_metadata_name(name: str) -> bool:
    """Tell whether `name` may stand after /metadata/: a role file, with or without its version."""
    return _METADATA.fullmatch(name) is not None


def parse_file_name(text: str) -> str:
    """Check a file's stable name as it stands in /media/ID/NAME; returns it in Unicode NFC.

    Raises:
        InputError: bad data: separators, control or direction marks, leading dot, trailing dot or space,
            names reserved by Windows, look-alike mixtures of scripts, more than 200 bytes of UTF-8.
    """
    if _PLAIN_NAME.fullmatch(text) and not _RESERVED.fullmatch(text):
        return text
    name = unicodedata.normalize("NFC", text)
    fault = _file_name_fault(name)
    if fault:
        reason, reason_zh = fault
        # ascii() unmasks look-alikes; repr() stays readable in Chinese and still escapes control and direction marks.
        raise InputError(
            f"file name {name[:60]!a} is refused: {reason}", zh=f"文件名 {name[:60]!r} 不合规：{reason_zh}"
        )
    return name


def parse_title(text: str) -> str:
    """Check a title: one line of 1–200 characters without control or direction marks; returns it in NFC.

    Markup is allowed as text (a lesson may be about `<script>`); pages escape it.

    Raises:
        InputError: bad data.
    """
    return _parse_line(text, "title", "标题", MAX_TITLE_CHARS)


def parse_reason(text: str) -> str:
    """Check the reason of a recall: one line of 1–500 characters."""
    return _parse_line(text, "reason", "原因", MAX_REASON_CHARS)


def parse_label(text: str, what: str = "column", what_zh: str = "专栏") -> str:
    """Check a short label such as a column's title: one line of 1–60 characters."""
    return _parse_line(text, what, what_zh, 60)


def parse_credit(text: str) -> str:
    """Check who made a lesson: one line of up to 60 characters, or nothing."""
    return parse_label(text, "credit", "署名") if text.strip() else ""


def parse_summary(text: str) -> str:
    """Check a summary: up to 4000 characters, line breaks allowed, no other control or direction marks."""
    clean = unicodedata.normalize("NFC", text).strip()
    if len(clean) > MAX_SUMMARY_CHARS:
        raise InputError(
            f"summary of {len(clean)} characters is refused: at most {MAX_SUMMARY_CHARS}",
            zh=f"简介过长（{len(clean)} 字），最多 {MAX_SUMMARY_CHARS} 字",
        )
    _refuse_marks(clean.replace("\n", ""), "summary", "简介")
    return clean


def _parse_line(text: str, what: str, what_zh: str, most: int) -> str:
    line = unicodedata.normalize("NFC", text).strip(" ")
    # Blank to the eye counts as empty: ideographic spaces, zero-width characters.
    if not any(unicodedata.category(char)[0] not in "ZCM" for char in line[:most]):
        raise InputError(f"{what} is empty", zh=f"{what_zh}不能为空")
    if len(line) > most:
        raise InputError(
            f"{what} of {len(line)} characters is refused: at most {most}",
            zh=f"{what_zh}过长（{len(line)} 字），最多 {most} 字",
        )
    _refuse_marks(line, what, what_zh)
    return line


def _refuse_marks(text: str, what: str, what_zh: str) -> None:
    for char in text:
        if char in _DIRECTION or unicodedata.category(char) in _UNSEEN or _is_noncharacter(char):
            code = f"U+{ord(char):04X}"
            raise InputError(
                f"{what} {text[:60]!a} is refused: it contains {code} (line break, control or direction mark)",
                zh=f"{what_zh}含有不允许的字符 {code}（换行、控制符或方向符）",
            )


def _file_name_fault(name: str) -> tuple[str, str] | None:
    if not name or name in {".", ".."}:
        return "it is empty or a dot", "不能为空或仅为点"
    if len(name.encode("utf-8", "surrogatepass")) > MAX_FILE_NAME_BYTES:
        return f"over {MAX_FILE_NAME_BYTES} bytes of UTF-8", f"超过 {MAX_FILE_NAME_BYTES} 字节"
    for char in name:
        category = unicodedata.category(char)
        if char in _FORBIDDEN or category == "Cf" or category in _UNSEEN or _is_noncharacter(char):
            return f"it contains U+{ord(char):04X}", f"含有不允许的字符 U+{ord(char):04X}"
    if name.strip() != name or name[0] == "." or name[-1] == ".":
        return "it begins or ends with a dot or space", "不能以点或空格开头或结尾"
    if _RESERVED.fullmatch(name):
        return "Windows reserves it", "是 Windows 保留名"
    if _is_disguised(name):
        return "it mixes Latin letters with look-alike letters of another script", "混用了形似的不同文字字母"
    return None


def _is_noncharacter(char: str) -> bool:
    code = ord(char)
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


def _is_disguised(name: str) -> bool:
    """Look for look-alike letters within a Latin word, and anywhere in the extension.

    Word by word, because an honest name may hold several scripts ("β-胡萝卜素.pdf").
    """
    stem, _, extension = name.rpartition(".")
    latin = lookalike = False
    for char in stem or extension:
        if not char.isalpha():
            # A combining mark belongs to the letter before it and ends no word.
            if unicodedata.category(char)[0] != "M":
                latin = lookalike = False
            continue
        script = unicodedata.name(char, "")
        latin = latin or script.startswith(("LATIN", "FULLWIDTH LATIN"))
        lookalike = lookalike or script.startswith(_LOOKALIKE)
        if latin and lookalike:
            return True
    return bool(stem) and any(unicodedata.name(char, "").startswith(_LOOKALIKE) for char in extension)
