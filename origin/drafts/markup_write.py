"""Markdown of a small HTML tree. Pure.

Every character that could mean something is escaped, wherever it stands: the text need not be pretty, it must come back
as it was. Emphasis leaves the punctuation at its ends outside, because CommonMark (section 6.2) does not see the end of
emphasis between a Chinese colon and a Chinese letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from origin.drafts.markup_tree import BLOCKS, Node

_SPECIAL: Final = re.compile(r"([\\`*_\[\]<>&|~#+\-=!.):\"'])")
_BLANKS: Final = re.compile(r"[ \t\r\n\f]+")
_MARKS: Final = {"strong": "**", "b": "**", "em": "*", "i": "*", "s": "~~", "del": "~~"}
_BREAK: Final = "\\\n"


def write_block(node: Node, *, is_plain: bool) -> str:
    """One block; `is_plain` leaves out emphasis and links, and keeps the words."""
    tag = node.tag
    if tag == "hr":
        return "---"
    if tag == "pre":
        return _code_block(_raw(node.children))
    if tag in {"ul", "ol"}:
        return _list(node, is_plain)
    if tag == "blockquote":
        inner = "\n\n".join(filter(None, (write_block(one, is_plain=is_plain) for one in node.blocks())))
        return "\n".join(f"> {line}".rstrip() for line in inner.split("\n")) if inner else ""
    if tag == "table":
        return _table(node, is_plain)
    text = _inline(node.children, is_plain)
    if tag in BLOCKS and tag[0] == "h":
        line = text.replace(_BREAK, " ")
        return f"{'#' * int(tag[1])} {line}" if line else ""
    return text


def _list(node: Node, is_plain: bool) -> str:
    items = []
    number = 0
    for child in node.children:
        if not isinstance(child, Node) or child.tag != "li":
            continue
        number += 1
        mark = f"{number}. " if node.tag == "ol" else "- "
        inner = _tight([(one.tag, write_block(one, is_plain=is_plain)) for one in child.blocks()])
        if inner:
            indented = inner.replace("\n", "\n" + " " * len(mark))
            items.append(mark + "\n".join(line.rstrip() for line in indented.split("\n")))
    return "\n".join(items)


def _tight(blocks: Sequence[tuple[str, str]]) -> str:
    """A list right below the words that it belongs to; all else apart."""
    parts: list[str] = []
    for tag, text in blocks:
        if text:
            parts += [("\n" if tag in {"ul", "ol"} else "\n\n") if parts else "", text]
    return "".join(parts)


def _table(node: Node, is_plain: bool) -> str:
    rows = [one for one in node.walk() if one.tag == "tr"]
    cells = [
        [_inline(cell.children, is_plain).replace(_BREAK, " ") for cell in row.children if isinstance(cell, Node)]
        for row in rows
    ]
    width = max((len(row) for row in cells), default=0)
    if width == 0:
        return ""
    lines = [f"| {' | '.join([*row, *[''] * (width - len(row))])} |" for row in cells]
    return "\n".join([lines[0], f"|{' --- |' * width}", *lines[1:]])


def _code_block(text: str) -> str:
    text = text.strip("\n")
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}\n{text}\n{fence}" if text else ""


def _inline(nodes: Sequence[Node | str], is_plain: bool) -> str:
    """Inline content in one line, breaks as a backslash at the line's end."""
    text = "".join(_part(one, is_plain) for one in nodes)
    lines = [_BLANKS.sub(" ", line).strip(" ") for line in text.split(_BREAK)]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    # A line of nothing would end the paragraph.
    return _BREAK.join(line for line in lines if line)


def _part(node: Node | str, is_plain: bool) -> str:
    if isinstance(node, str):
        return _SPECIAL.sub(r"\\\1", _BLANKS.sub(" ", node))
    if node.tag == "br":
        return _BREAK
    if node.tag == "img":
        alt = _SPECIAL.sub(r"\\\1", _BLANKS.sub(" ", node.attributes.get("alt", "")))
        source = node.attributes.get("src", "")
        return f"![{alt}]({source})" if source else ""
    inner = "".join(_part(one, is_plain) for one in node.children)
    if is_plain:
        return inner
    if node.tag == "code":
        return _code(_raw(node.children)) or inner
    if node.tag == "a" and inner.strip() and node.attributes.get("href"):
        address = quote(node.attributes["href"].strip(), safe="!#$%&'*+,-./:;=?@_~")
        return f"[{inner.strip()}]({address})"
    mark = _MARKS.get(node.tag)
    return _emphasised(inner, mark) if mark is not None else inner


def _emphasised(text: str, mark: str) -> str:
    """Put marks around the words, with blanks and punctuation at both ends left outside."""
    if _BREAK in text:
        return _BREAK.join(_emphasised(line, mark) for line in text.split(_BREAK))
    start, stop = 0, len(text)
    while start < stop and not _is_word(text[start]) and text[start] not in "[`*~":
        start += 2 if text[start] == "\\" else 1
    while stop > start and _ends_outside(text[:stop]):
        stop -= 2 if text[stop - 2 : stop - 1] == "\\" else 1
    core = text[start:stop]
    return f"{text[:start]}{mark}{core}{mark}{text[stop:]}" if core.strip() else text


def _ends_outside(text: str) -> bool:
    """Tell whether the last character is a blank or punctuation of the text's own, and no mark of ours."""
    return not _is_word(text[-1]) and (text[-2:-1] == "\\" or text[-1] not in ")`*~")


def _is_word(char: str) -> bool:
    return unicodedata.category(char)[0] not in "PSZC"


def _code(text: str) -> str:
    text = _BLANKS.sub(" ", text).strip(" ")
    ticks = "`" * (_longest_run(text) + 1)
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{text}{pad}{ticks}" if text else ""


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _raw(nodes: Sequence[Node | str]) -> str:
    return "".join(one if isinstance(one, str) else "\n" if one.tag == "br" else _raw(one.children) for one in nodes)
