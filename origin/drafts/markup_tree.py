"""A small tree of sanitised HTML: elements, attributes, text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

BLOCKS: Final = frozenset({"h1", "h2", "h3", "h4", "h5", "h6", "p", "ul", "ol", "blockquote", "pre", "hr", "table"})
_VOID: Final = frozenset({"br", "img", "hr"})
# Deeper than any text that a person writes; what goes further is hung here.
_DEEPEST: Final = 40


@dataclass(slots=True)
class Node:
    """One element; the root has no tag."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """All elements below, in order."""
        for child in self.children:
            if isinstance(child, Node):
                yield child
                yield from child.walk()

    def blocks(self) -> list[Node]:
        """The children as blocks: what stands between blocks becomes a paragraph."""
        found: list[Node] = []
        loose: list[Node | str] = []
        for child in self.children:
            if isinstance(child, Node) and child.tag in BLOCKS:
                found += [Node("p", {}, loose)] if _has_words(loose) else []
                found.append(child)
                loose = []
            else:
                loose.append(child)
        return [*found, Node("p", {}, loose)] if _has_words(loose) else found


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(node)
        if tag not in _VOID and len(self._open) < _DEEPEST:
            self._open.append(node)

    def handle_endtag(self, tag: str) -> None:
        for n in range(len(self._open) - 1, 0, -1):
            if self._open[n].tag == tag:
                del self._open[n:]
                return

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def parse_tree(html: str) -> Node:
    """Read HTML that a sanitiser or a renderer wrote."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    return builder.root


def plain_text(nodes: Sequence[Node | str]) -> str:
    """The words, without pictures."""
    parts = []
    for node in nodes:
        if isinstance(node, str):
            parts.append(node)
        elif node.tag == "br":
            parts.append("\n")
        else:
            parts.append(plain_text(node.children))
    return "".join(parts)


def _has_words(nodes: Sequence[Node | str]) -> bool:
    return any(not isinstance(one, str) or bool(one.strip()) for one in nodes)
