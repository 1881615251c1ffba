"""The words of a draft as a value: what is saved, compared, merged and in the end published. Pure.

A draft may be unfinished: saving refuses what could never go out (a control character, a text beyond its length), and
handing in for review refuses what is not whole yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from manifests.errors import FormatError, InputError
from manifests.instants import Instant, parse_instant
from manifests.model import Courseware, InstantText, RegionText
from manifests.names import (
    MAX_SUMMARY_CHARS,
    MAX_TITLE_CHARS,
    Region,
    is_within,
    parse_file_name,
    parse_label,
    parse_region,
    parse_summary,
    parse_title,
    region_level,
)
from origin.drafts.owners import owner_of
from origin.drafts.themes import read_theme

MAX_ARTICLE_CHARS: Final = 400_000
MAX_DRAFT_FILES: Final = 100
# Six pictures of a video to choose a poster from.
FRAMES: Final = 6

Label = Annotated[str, Meta(max_length=60)]
FileRole = Literal["file", "poster", "picture"]


class Document(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a draft says.

    Attributes:
        columns: titles or ids; a title that no column has makes one.
        theme: title of the column of a month's theme, empty for none.
        audience: region codes; empty for all of the draft's own region.
        expires: when it is taken off screens, None for never.
        article: HTML as `markup.sanitise` leaves it; pictures are named as the draft's files.
        poster: `auto`; `frame-N` of the first video; `file` for the picture among the files that is the poster.
        credit: who made it, as the portal shows it.
        kept: names of files of the version that it revises which stay as they are.
        hls: False for videos that shall not play as HLS.
        publisher: into whose catalog it goes: `province`, or a city's code; empty leaves it as it is.
    """

    title: Annotated[str, Meta(max_length=MAX_TITLE_CHARS)] = ""
    summary: Annotated[str, Meta(max_length=MAX_SUMMARY_CHARS)] = ""
    columns: Annotated[tuple[Label, ...], Meta(max_length=20)] = ()
    theme: Label = ""
    audience: Annotated[tuple[RegionText, ...], Meta(max_length=400)] = ()
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    tags: Annotated[tuple[Label, ...], Meta(max_length=20)] = ()
    expires: InstantText | None = None
    article: Annotated[str, Meta(max_length=MAX_ARTICLE_CHARS)] = ""
    poster: Annotated[str, Meta(pattern=r"^(auto|file|frame-[1-6])\Z")] = "auto"
    credit: Annotated[str, Meta(max_length=60)] = ""
    kept: Annotated[tuple[Annotated[str, Meta(max_length=200)], ...], Meta(max_length=MAX_DRAFT_FILES)] = ()
    hls: bool = True
    publisher: Annotated[str, Meta(pattern=r"^(|province|[1-9][0-9]{5})\Z")] = ""

    @property
    def all_columns(self) -> tuple[str, ...]:
        """Its columns, the theme's last."""
        return (*self.columns, self.theme) if self.theme else self.columns


class DraftFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a draft: an upload under the name that it will have. `picture`: one that the article shows."""

    upload: Annotated[str, Meta(pattern=r"^[0-9a-zA-Z_-]{1,32}\Z")]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    role: FileRole = "file"


FIELDS: Final = Document.__struct_fields__


def decode_document(text: str) -> Document:
    """A stored document. Fields that another version of this program knew are passed over."""
    values = msgspec.json.decode(text)
    known = {key: value for key, value in values.items() if key in FIELDS}
    return msgspec.convert(known, Document)


def encode_document(document: Document) -> str:
    """A document to store."""
    return msgspec.json.encode(document).decode()


def check_document(document: Document, area: Region) -> Document:
    """Check and tidy what somebody wants to save; `area` is where their word counts.

    Raises:
        InputError: bad data; names the first thing that is wrong.
    """
    if document.expires is not None:
        _check_instant(document.expires)
    return msgspec.structs.replace(
        document,
        title=parse_title(document.title) if document.title.strip() else "",
        summary=parse_summary(document.summary),
        columns=_labels(document.columns, "column", "专栏"),
        theme=parse_label(document.theme, "theme", "主题") if document.theme.strip() else "",
        audience=fold_audience(document.audience, area),
        tags=_labels(document.tags, "tag", "标签"),
        credit=parse_label(document.credit, "credit", "署名") if document.credit.strip() else "",
        kept=tuple(dict.fromkeys(parse_file_name(name) for name in document.kept)),
    )


def check_files(files: Sequence[DraftFile]) -> tuple[DraftFile, ...]:
    """Check the files' names among each other.

    Raises:
        InputError: bad data.
    """
    if len(files) > MAX_DRAFT_FILES:
        raise InputError(f"{len(files)} files are refused: at most {MAX_DRAFT_FILES}", zh="文件过多")
    clean = tuple(msgspec.structs.replace(one, name=parse_file_name(one.name)) for one in files)
    seen: set[str] = set()
    for one in clean:
        if one.name.casefold() in seen:
            raise InputError(
                f"two files of this draft are named {one.name!a}",
                zh=f"稿件中有两个文件都叫 {one.name}",
                hint="give each file a name of its own",
                hint_zh="请给每个文件取不同的名字",
            )
        seen.add(one.name.casefold())
    if sum(one.role == "poster" for one in clean) > 1:
        raise InputError("a draft has one poster", zh="封面图片只能有一张")
    return clean


def fold_audience(codes: Iterable[str], area: Region) -> tuple[Region, ...]:
    """Region codes sorted, without those that lie inside another one of them.

    Raises:
        InputError: bad data; a code that is none, or that lies outside `area`.
    """
    regions = sorted({parse_region(code) for code in codes}, key=lambda one: (_breadth(one), one))
    found: list[Region] = []
    for region in regions:
        if not is_within(region, area):
            raise InputError(
                f"audience {region} is refused: it lies outside {area}", zh=f"面向地区 {region} 不在您的管理范围内"
            )
        if not any(is_within(region, wider) for wider in found):
            found.append(region)
    return tuple(sorted(found))


def why_unfinished(
    document: Document, kinds: Sequence[str], publish_at: Instant | None, now: Instant
) -> tuple[str, str]:
    """What a draft lacks to be reviewed, in English and Chinese; empty when it lacks nothing.

    Args:
        document: its words.
        kinds: of its files that are there and were found good.
        publish_at: when it shall go out.
        now: for instants that have passed.
    """
    if not document.title:
        return "it has no title", "缺少标题"
    if not document.article and not set(kinds) & {"video", "audio", "article", "document"}:
        return (
            "there is nothing to learn from: neither video, sound, article nor document",
            "没有可学习的内容：至少需要一个视频、音频、图文或文档",
        )
    if document.poster == "file" and "poster" not in kinds:
        return "the poster's picture is missing", "缺少封面图片"
    if document.expires is not None:
        expires = parse_instant(document.expires)
        if expires <= max(now, publish_at or now):
            return "it would expire before it goes out", "到期时间须晚于发布时间"
    return "", ""


def kind_of(document: Document, kinds: Iterable[str]) -> str:
    """What kind of courseware it would be, as publishing decides it; empty when that is open."""
    found = set(kinds)
    if "video" in found:
        return "video"
    if "audio" in found:
        return "recording"
    if document.article or "article" in found:
        return "article"
    return "document" if "document" in found else ""


def document_of(item: Courseware, titles: Mapping[str, str], article: str) -> Document:
    """The words of an offered courseware, to begin its next version with.

    Args:
        item: as it is offered.
        titles: columns by id.
        article: its text as sanitised HTML, empty when it has none.
    """
    named = [titles.get(one, one) for one in item.columns]
    theme = next((one for one in named if read_theme(one) is not None), "")
    return Document(
        title=item.title,
        summary=item.summary,
        columns=tuple(one for one in named if one != theme),
        theme=theme,
        audience=fold_audience(item.audience, Region(item.audience[0][:2] + "0000")),
        priority=item.priority,
        tags=item.tags,
        expires=item.expires,
        article=article,
        credit=item.credit,
        kept=kept_names(item, has_article=bool(article)),
        publisher=owner_of(item.id),
    )


def kept_names(item: Courseware, *, has_article: bool) -> tuple[str, ...]:
    """Names of the files of a courseware that its next version begins with; streams are made anew."""
    gone = {"rendition", "playlist"} | ({"article"} if has_article else set())
    return tuple(one.name for one in item.files if one.role not in gone)


def differing(one: Document, other: Document) -> tuple[str, ...]:
    """Names of the fields in which two documents differ."""
    return tuple(name for name in FIELDS if getattr(one, name) != getattr(other, name))


def _labels(texts: Iterable[str], what: str, what_zh: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(parse_label(text, what, what_zh) for text in texts if text.strip()))


def _breadth(region: Region) -> int:
    return ("province", "city", "county").index(region_level(region))


def _check_instant(text: str) -> None:
    try:
        parse_instant(text)
    except FormatError as error:
        raise InputError(str(error), zh=f"时间 {text[:40]!r} 不存在") from error
