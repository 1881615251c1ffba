"""Articles from the editor: what is left of hostile HTML, and that no word is lost on the way."""

from __future__ import annotations

import re
from html import escape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manifests.articles import render_article
from origin.drafts.markup import (
    TAGS,
    from_markdown,
    pictures_in,
    sanitise,
    to_markdown,
    with_addresses,
    words_in,
)
from origin.drafts.markup_tree import parse_tree, plain_text
from origin.publish.articles import parse_article

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='java\tscript:alert(1)'>x</a>",
    "<a href='&#106;avascript:alert(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<iframe src=//evil.example></iframe>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<p style='background:url(//evil.example)'>x</p>",
    "<form action=//evil.example><input name=a><button>x</button></form>",
    "<img src='http://169.254.169.254/latest/meta-data'>",
    "<img src='//evil.example/x.png'><img src='/etc/passwd'><img src='file:///etc/passwd'>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    "<style>@import '//evil.example'</style><link rel=stylesheet href=//evil.example><meta http-equiv=refresh>",
    "<object data=x></object><embed src=x><base href=//evil.example>",
    "<details open ontoggle=alert(1)><video src=x onerror=alert(1)></video>",
    "<<p>script>alert(1)<</p>/script>",
    "<p id=x name=y class=z data-x=1>x</p>",
]
WORDS = st.text(
    st.one_of(
        st.sampled_from(list("\\`*_{}[]()<>#+-.!|~&=:\"'/ 1234567890 麦田。：“”（）　\u00a0")),
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]),
    ),
    max_size=24,
)


def _wrap(tag: str, inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return inner.map(lambda text: f"<{tag}>{text}</{tag}>")


INLINE = st.recursive(
    WORDS.map(escape) | st.just("<br>") | st.just('<img src="a.png" alt="x]y">'),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map("".join),
        *(_wrap(tag, inner) for tag in ("strong", "em", "s", "code", "u")),
        inner.map(lambda text: f'<a href="https://a.example/?q=(1)">{text}</a>'),
    ),
    max_leaves=8,
)
BLOCKS = st.recursive(
    st.one_of(*(_wrap(tag, INLINE) for tag in ("p", "h2", "pre")), INLINE),
    lambda inner: st.one_of(
        st.lists(_wrap("li", inner), max_size=3).map(lambda items: f"<ul>{''.join(items)}</ul>"),
        st.lists(_wrap("li", inner), max_size=3).map(lambda items: f"<ol>{''.join(items)}</ol>"),
        _wrap("blockquote", inner),
        st.lists(_wrap("td", INLINE), min_size=1, max_size=3).map(lambda c: f"<table><tr>{''.join(c)}</tr></table>"),
        st.lists(inner, max_size=4).map("".join),
    ),
    max_leaves=6,
)


def _shown(markdown: str) -> str:
    html = render_article(markdown, {"a.png": "/a.png"}, lambda words: words)
    return re.sub(r"\s+", "", plain_text(parse_tree(html).children))


@given(html=BLOCKS)
@example(html="<p>a<strong>注意：</strong>请</p>")
@example(html="<p>1. <em>a</em><strong>b</strong><em>c</em></p>")
@example(html="<p># - + 1) === ``` ~~~ > |</p>")
@example(html="<pre>```\n</pre><p>x</p>")
def test_no_word_is_lost_or_becomes_markup(html: str) -> None:
    clean = sanitise(html)
    assert _shown(to_markdown(clean)) == re.sub(r"\s+", "", plain_text(parse_tree(clean).children))


@given(html=st.one_of(BLOCKS, st.text(max_size=200), st.sampled_from(HOSTILE)))
def test_sanitising_twice_is_sanitising_once(html: str) -> None:
    assert sanitise(sanitise(html)) == sanitise(html)


@pytest.mark.parametrize("html", HOSTILE)
def test_nothing_that_runs_or_loads_is_left(html: str) -> None:
    for once in (html, f"<p>{html}</p>", f"<ul><li>{html}", html.upper()):
        clean = sanitise(once)
        markdown = to_markdown(clean)
        shown = render_article(markdown, {}, lambda words: words)
        for text in (clean, shown):
            tree = parse_tree(text)
            for node in tree.walk():
                assert node.tag in TAGS
                assert set(node.attributes) <= {"href", "src", "alt", "rel", "target", "loading"}
                assert node.attributes.get("href", "https:").startswith(("https:", "http:", "mailto:"))
                assert not node.attributes.get("src", "").startswith(("/", "http", "data"))
        parse_article(f"# t\n\n{markdown}".encode())  # no picture from elsewhere, which publishing would refuse


def test_pictures_keep_their_names_whatever_address_showed_them() -> None:
    clean = sanitise('<p><img src="/console/drafts/7/files/%E5%9B%BE%201.png" alt="麦]田"><img src="b.png"></p>')
    assert pictures_in(clean) == ("图 1.png", "b.png")
    shown = with_addresses(clean, {"图 1.png": "/console/drafts/7/files/x"})
    assert shown == '<p><img src="/console/drafts/7/files/x" alt="麦]田"></p>'
    markdown = to_markdown(clean)
    assert parse_article(markdown.encode()).pictures == ("图 1.png", "b.png")
    assert pictures_in(from_markdown(markdown)) == ("图 1.png", "b.png")


def test_structure_comes_back() -> None:
    html = (
        "<h2>一、播种</h2><p>亩用种<strong>12公斤：</strong>见<em>下表</em></p><ol><li>整地<ul><li>深翻</li></ul></li>"
        '<li>播种</li></ol><p><a href="https://a.example/x">链接</a></p><blockquote><p>注意</p></blockquote>'
    )
    again = from_markdown(to_markdown(sanitise(html)))
    for part in ("<h2>", "<strong>12公斤</strong>：", "<em>下表</em>", "<ol>", "<ul>", 'href="https://a.example/x"'):
        assert part in again
    assert words_in(sanitise(html)).splitlines()[0] == "一、播种"
