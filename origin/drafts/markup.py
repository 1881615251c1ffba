"""Articles as an editor writes them: whatever HTML comes in, a few harmless elements come out, and Markdown of these.

Two steps, neither of which trusts the other. `sanitise` lets ammonia (nh3) throw away what may run or load, then
writes what is left anew, element by element. `to_markdown` makes the text that is published, where HTML means nothing
any more; each block is read back as an edge will read it, and when its words are not the same it goes out without
emphasis.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import nh3

from manifests.articles import render_article
from origin.drafts.markup_tree import Node, parse_tree, plain_text
from origin.drafts.markup_write import write_block

_HEADINGS: Final = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_TABLES: Final = frozenset({"table", "thead", "tbody", "tr", "th", "td"})
_INLINE: Final = frozenset({"strong", "b", "em", "i", "s", "del", "code", "a", "br", "img", "u"})
TAGS: Final = _HEADINGS | _TABLES | _INLINE | {"p", "ul", "ol", "li", "blockquote", "pre", "hr"}
_EMPTY: Final = frozenset({"br", "img", "hr"})
_SCHEMES: Final = frozenset({"http", "https", "mailto"})
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_PICTURE: Final = re.compile(r"!\[(?:[^\]\\]|\\.)*\]\(<?([^)>\s]+)")
_SPACES: Final = re.compile(r"\s+")


def sanitise(html: str) -> str:
    """Leave of somebody's HTML what an article may hold; the same again for what it gives.

    Pictures keep the name of a file, whatever address the editor showed it by; those from elsewhere are left out.
    """
    clean = nh3.clean(
        _CONTROLS.sub("", html).replace("\u00a0", " "),
        tags=set(TAGS),
        clean_content_tags={"script", "style", "template", "iframe", "object", "svg", "math", "noscript", "title"},
        attributes={"a": {"href"}, "img": {"src", "alt"}},
        attribute_filter=_attribute,
        url_schemes=set(_SCHEMES),
        link_rel=None,
    )
    return "".join(_write(one) for one in parse_tree(clean).children)


def to_markdown(html: str) -> str:
    """The Markdown of sanitised HTML."""
    blocks = [_proved(one) for one in parse_tree(html).blocks()]
    return "\n\n".join(block for block in blocks if block)


def from_markdown(text: str) -> str:
    """Sanitised HTML of an article that is offered, for its next version's editor."""
    return sanitise(render_article(text, {name: quote(name) for name in _pictures_of(text)}, lambda words: words))


def pictures_in(html: str) -> tuple[str, ...]:
    """Names of the pictures that sanitised HTML shows, each once."""
    found = (unquote(node.attributes.get("src", "")) for node in parse_tree(html).walk() if node.tag == "img")
    return tuple(dict.fromkeys(found))


def with_addresses(html: str, addresses: Mapping[str, str]) -> str:
    """Sanitised HTML whose pictures have the addresses that an editor can show them by; others are left out."""
    tree = parse_tree(html)
    for node in tree.walk():
        if node.tag == "img":
            node.attributes["src"] = addresses.get(unquote(node.attributes.get("src", "")), "")
    return "".join(_write(one) for one in tree.children)


def words_in(html: str) -> str:
    """The bare text of sanitised HTML, for comparing by eye."""
    return "\n".join(filter(None, (plain_text([one]).strip() for one in parse_tree(html).blocks())))


def _attribute(element: str, attribute: str, value: str) -> str | None:
    if element == "img" and attribute == "src":
        return quote(_name(value)) or None
    if element == "a" and attribute == "href":
        try:
            return value if urlsplit(value.strip()).scheme.lower() in _SCHEMES else None
        except ValueError:
            return None
    return value


def _name(address: str) -> str:
    """The file that a picture's address means; empty for a picture that is not the draft's."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    if parts.scheme or parts.netloc or (parts.path.startswith("/") and not parts.path.startswith("/console/drafts/")):
        return ""
    return unquote(parts.path).rpartition("/")[2]


def _write(node: Node | str) -> str:
    if isinstance(node, str):
        return escape(node, quote=False)
    if node.tag == "img" and not node.attributes.get("src"):
        return ""
    fields = "".join(f' {name}="{escape(value)}"' for name, value in node.attributes.items())
    if node.tag in _EMPTY:
        return f"<{node.tag}{fields}>"
    return f"<{node.tag}{fields}>{''.join(_write(one) for one in node.children)}</{node.tag}>"


def _proved(node: Node) -> str:
    """A block's Markdown, as it is when its words come back; else without emphasis and links."""
    for is_plain in (False, True):
        written = write_block(node, is_plain=is_plain)
        if not written or _read_back(written) == _squeezed(plain_text([node])):
            return written
    return written


def _read_back(written: str) -> str:
    html = render_article(written, dict.fromkeys(_pictures_of(written), "x"), lambda words: words)
    return _squeezed(plain_text(parse_tree(html).children))


def _pictures_of(text: str) -> list[str]:
    return [_name(source) for source in _PICTURE.findall(text)]


def _squeezed(text: str) -> str:
    return _SPACES.sub("", text)
