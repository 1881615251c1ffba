"""Text as people hand it in: decoded by trial, because files from counties come in several encodings."""

from __future__ import annotations

import codecs

from manifests.errors import InputError

MAX_TEXT_BYTES = 1 << 20

# U+FFFD marks text that was broken by an earlier wrong conversion; C0 controls other than these mark binary data.
_ALLOWED_CONTROLS = frozenset("\t\n\r\f")


def decode_text(data: bytes, what: str = "text", what_zh: str = "文本", most: int = MAX_TEXT_BYTES) -> str:
    r"""Decode UTF-8 (with or without mark), UTF-16 (with mark or by its zero bytes) or GB18030; line ends become \n.

    Raises:
        InputError: bad data: too long, empty, binary, or in none of these encodings.
    """
    if len(data) > most:
        raise InputError(
            f"{what} of {len(data)} bytes is refused: at most {most}", zh=f"{what_zh}过大，最多 {most >> 10} KB"
        )
    text = _decode(data)
    if text is None or not _is_plain(text):
        raise InputError(
            f"this {what} is in no known encoding (UTF-8, UTF-16, GB18030), or it is not text",
            zh=f"无法识别该{what_zh}的编码，请另存为 UTF-8 后再试",
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise InputError(f"the {what} is empty", zh=f"{what_zh}内容为空")
    return text


def is_text(head: bytes) -> bool:
    """Tell whether the beginning of a file looks like text; a character cut at the end does no harm."""
    for cut in range(min(4, len(head))):
        text = _decode(head[: len(head) - cut])
        if text is not None and _is_plain(text):
            return True
    return False


def _decode(data: bytes) -> str | None:
    for encoding in _candidates(data):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


def _candidates(data: bytes) -> tuple[str, ...]:
    if data.startswith(codecs.BOM_UTF8):
        return ("utf-8-sig",)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ("utf-16",)
    if b"\0" in data[:200]:
        # No mark, but every cue number, digit and line end has a zero byte on one side.
        odd, even = data[1:200:2].count(0), data[0:200:2].count(0)
        return ("utf-16-le",) if odd > even else ("utf-16-be",)
    return ("utf-8", "gb18030")


def _is_plain(text: str) -> bool:
    return not any((char < " " and char not in _ALLOWED_CONTROLS) or "\x7f" <= char < "\xa0" for char in text)
