"""Articles: Markdown to HTML that can neither run nor load anything from elsewhere.

Pure. Raw HTML stays text; pictures are those of the same lesson or a word about their absence; links leave by a new
page that learns nothing of this one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

MAX_ARTICLE_BYTES = 1024 * 1024

_PARSER = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])


def render_article(text: str, urls: Mapping[str, str], absent: Callable[[str], str], title: str = "") -> str:
    """Render an article.

    Args:
        text: Markdown.
        urls: address of each file of the lesson by its name.
        absent: the words that stand for a picture that the lesson does not have, given its alternative text.
        title: the page's own; a first heading that repeats it is left out.
    """
    tokens = _without_title(_PARSER.parse(text), title)
    for token in tokens:
        if token.children:
            _join_lines(token.children)
            token.children = [_mended(child, urls, absent) for child in token.children]
    rendered: str = _PARSER.renderer.render(tokens, _PARSER.options, {})
    return rendered


def _without_title(tokens: list[Token], title: str) -> list[Token]:
    if len(tokens) > 2 and tokens[0].type == "heading_open" and tokens[1].content.strip() == title.strip() != "":
        return tokens[3:]
    return tokens


def _join_lines(tokens: Sequence[Token]) -> None:
    """Chinese has no blank between words: a line that ends in it goes on without one (CSS Text 4 section 4.1.2)."""
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if token.type == "softbreak" and _is_wide(before.content[-1:]) and _is_wide(after.content[:1]):
            token.type, token.content = "text", ""


def _is_wide(char: str) -> bool:
    return char != "" and unicodedata.east_asian_width(char) in {"W", "F"}


def _mended(token: Token, urls: Mapping[str, str], absent: Callable[[str], str]) -> Token:
    if token.type == "image":
        url = urls.get(_name(str(token.attrGet("src") or "")))
        if url is None:
            return Token("text", "", 0, content=absent(_plain(token.children or ())))
        token.attrSet("src", url)
        token.attrSet("loading", "lazy")
    elif token.type == "link_open":
        href = str(token.attrGet("href") or "")
        token.attrSet("href", urls.get(_name(href), href))
        token.attrSet("rel", "noopener noreferrer")
        token.attrSet("target", "_blank")
    return token


def _name(address: str) -> str:
    """The file that an address means: publishing keeps names and drops folders."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return ""
    return unicodedata.normalize("NFC", unquote(parts.path).replace("\\", "/").rpartition("/")[2])


def _plain(tokens: Sequence[Token]) -> str:
    return "".join(token.content for token in tokens)
