"""Articles: Markdown as handed in becomes UTF-8 text, with the pictures it refers to.

Only pictures that travel with the article can be shown: a station has no way to the world outside.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from manifests.errors import InputError
from manifests.names import parse_file_name
from origin.publish.media_text import MAX_TEXT_BYTES, decode_text

MAX_PICTURES = 150


@dataclass(frozen=True, slots=True)
class Article:
    """One article.

    Attributes:
        text: Markdown, lines ended by a line feed.
        title: its first heading, or empty.
        pictures: file names that it refers to, each once, in order; folders before them are dropped.
    """

    text: str
    title: str
    pictures: tuple[str, ...]

    def encode(self) -> bytes:
        """The bytes to publish."""
        return self.text.encode()


def parse_article(data: bytes) -> Article:
    """Read an article's bytes.

    Raises:
        InputError: bad data: undecodable, too long, or a picture that cannot travel with it.
    """
    text = decode_text(data, "article", "图文")
    if len(text.encode()) > MAX_TEXT_BYTES:  # GB18030 grows by half
        raise InputError(f"the article is longer than {MAX_TEXT_BYTES} bytes of UTF-8", zh="图文过长，最多 1 MB")
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(text)
    names = dict.fromkeys(_picture_name(source) for source in _pictures(tokens))
    if len(names) > MAX_PICTURES:
        raise InputError(f"{len(names)} pictures are refused: at most {MAX_PICTURES}", zh="图片过多")
    return Article(text, _title(tokens), tuple(names))


def check_pictures(article: Article, names: Collection[str]) -> None:
    """Check that every picture of an article is among the files handed in.

    Raises:
        InputError: bad data; names those that are missing.
    """
    missing = [name for name in article.pictures if name not in names]
    if missing:
        listed = ", ".join(missing[:10])
        raise InputError(
            f"the article refers to pictures that were not handed in: {listed}",
            zh=f"图文引用的图片没有一并提交：{listed}",
            hint="name these files on the command line beside the article",
            hint_zh="请把这些图片文件与图文一起提交",
        )


def _pictures(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type == "image":
            yield str(token.attrs.get("src", ""))
        if token.children:
            yield from _pictures(token.children)


def _picture_name(source: str) -> str:
    parts = urlsplit(source)
    if parts.scheme or parts.netloc:
        raise InputError(
            f"the article shows a picture from elsewhere, {source[:80]!a}: stations cannot reach it",
            zh="图文引用了网络图片，站点无法访问，请下载后作为文件一并提交",
        )
    name = unquote(parts.path).replace("\\", "/").rpartition("/")[2]
    return parse_file_name(unicodedata.normalize("NFC", name))


def _title(tokens: list[Token]) -> str:
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open" and inline.children:
            return "".join(child.content for child in inline.children if child.type in {"text", "code_inline"}).strip()
    return ""
