"""The rules of a catalog that a type cannot say: characters, order, uniqueness, names, references, tables.

Written for catalogs of 50,000 courseware, which an edge checks every night: what can be checked for all values at once
(digests end to end, the set of all instants) is not checked one by one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from manifests.errors import FormatError, InputError
from manifests.instants import parse_instant
from manifests.model import MAX_PILOTS, MEDIA_TYPE, Catalog, Courseware, File, Pilot
from manifests.names import parse_courseware_id, parse_file_name, parse_region
from manifests.pieces import MAX_TABLE_BYTES, PIECE_SIZE, check_piece_size, table_bytes

# Control characters, direction marks, line and paragraph separators: what names.parse_title refuses from a person.
_MARKS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_MEDIA_TYPE = re.compile(MEDIA_TYPE)


def check_catalog(catalog: Catalog) -> None:
    """Check the rules that a type cannot say.

    Raises:
        FormatError: bad data; names the item.
    """
    _check_characters(catalog)
    _check_order([f"{column.order + (1 << 31):010} {column.id}" for column in catalog.columns], "columns")
    _check_order([item.id for item in catalog.courseware], "courseware")
    _check_order([recall.id for recall in catalog.recalls], "recalls")
    pilots = [item.pilot for item in catalog.courseware if item.pilot is not None]
    if len(pilots) > MAX_PILOTS:
        raise FormatError(f"a catalog with {len(pilots)} pilots passes the limit of {MAX_PILOTS}")
    columns = frozenset(column.id for column in catalog.columns)
    if len(columns) != len(catalog.columns):
        raise FormatError("two columns have the same id")
    for text in (*columns, *(recall.id for recall in catalog.recalls)):
        _check_name(parse_courseware_id, text)
    recalled = {recall.id: recall.version for recall in catalog.recalls}
    for item in catalog.courseware:
        _check_courseware(item, columns)
        if recalled.get(item.id, 0) >= item.version:
            raise FormatError(f"courseware {item.id!r} version {item.version} is both offered and recalled")
        if item.pilot is not None:
            _check_pilot(item, item.pilot, columns)


def check_digests(digests: Sequence[str]) -> None:
    """Check many blob names at once.

    Raises:
        FormatError: bad data; one is not 64 lowercase hexadecimal digits.
    """
    joined = "".join(digests)
    try:
        # fromhex takes capitals and blanks too; hex() gives neither back.
        is_good = bytes.fromhex(joined).hex() == joined and all(len(one) == 64 for one in digests)
    except ValueError:
        is_good = False
    if not is_good:
        raise FormatError("a blob name is not 64 lowercase hexadecimal digits")


def check_table(size: int, piece_size: int, table: str | None, what: str) -> None:
    """Check that a blob has a piece table exactly when it needs one, and that the table is within its limit.

    Raises:
        FormatError: bad data; names `what`.
    """
    check_piece_size(piece_size)
    if (table is not None) != (size > piece_size):
        raise FormatError(f"{what}: a blob over one piece has a piece table, a smaller one has none")
    if table_bytes(size, piece_size) > MAX_TABLE_BYTES:
        raise FormatError(f"{what}: its piece table would pass {MAX_TABLE_BYTES} bytes; use larger pieces")


def _check_characters(catalog: Catalog) -> None:
    pilots = [item.pilot for item in catalog.courseware if item.pilot is not None]
    items, recalls = (*catalog.courseware, *(pilot.next for pilot in pilots)), catalog.recalls
    check_digests(list(_digests(items)))
    instants = {catalog.issued, *(item.published for item in items), *(recall.at for recall in recalls)}
    for text in instants.union(item.expires for item in items if item.expires is not None):
        parse_instant(text)
    audiences = {*(item.audience for item in items), *(pilot.audience for pilot in pilots)}
    for text in {catalog.publisher}.union(*audiences):
        _check_name(parse_region, text)
    for text in {file.name for item in items for file in item.files}:  # most lessons name theirs alike
        _check_name(parse_file_name, text)
    for text in {file.media_type for item in items for file in item.files}:
        if not _MEDIA_TYPE.fullmatch(text):
            raise FormatError(f"media type {text[:80]!r} is not of the form type/subtype in lowercase")
    lines = [*(item.title for item in items), *(column.title for column in catalog.columns)]
    lines += [recall.reason for recall in recalls]
    lines += {tag for item in items for tag in item.tags}
    lines += {item.credit for item in items}
    lines += {file.language for item in items for file in item.files}
    lines += [item.summary.replace("\n", "") for item in items if item.summary]
    found = _MARKS.search("".join(lines))
    if found:
        raise FormatError(f"a text of the catalog contains U+{ord(found.group()):04X} (control or direction mark)")


def _digests(items: Iterable[Courseware]) -> Iterator[str]:
    for item in items:
        for file in item.files:
            yield file.blob
            if file.table is not None:
                yield file.table
            for patch in file.patches:
                yield patch.source
                yield patch.blob
                if patch.table is not None:
                    yield patch.table


def _check_order(keys: list[str], what: str) -> None:
    if any(map(str.__ge__, keys, keys[1:])):
        first = next(after for before, after in itertools.pairwise(keys) if before >= after)
        raise FormatError(f"{what}: {first!r} is repeated or out of order")


def _check_name(parse: Callable[[str], str], text: str) -> None:
    try:
        clean = parse(text)
    except InputError as error:
        raise FormatError(str(error)) from error
    if clean != text:
        raise FormatError(f"name {text!a} is not in Unicode NFC")


def _check_courseware(item: Courseware, columns: frozenset[str]) -> None:
    _check_name(parse_courseware_id, item.id)
    if not columns.issuperset(item.columns):
        raise FormatError(f"courseware {item.id!r} names a column that the catalog does not have")
    if item.expires is not None and item.expires <= item.published:
        raise FormatError(f"courseware {item.id!r} expires before it is published")
    for file in item.files:
        _check_file(item.id, file)
    if len(item.files) > 1 and len({file.name.casefold() for file in item.files}) != len(item.files):
        raise FormatError(f"courseware {item.id!r} has two files of the same name (capitals do not count)")


def _check_pilot(item: Courseware, pilot: Pilot, columns: frozenset[str]) -> None:
    if pilot.next.id != item.id or pilot.next.version <= item.version:
        raise FormatError(f"the pilot of courseware {item.id!r} is not a higher version of it")
    if pilot.next.pilot is not None:
        raise FormatError(f"courseware {item.id!r} has a pilot within its pilot")
    _check_courseware(pilot.next, columns)


def _check_file(courseware_id: str, file: File) -> None:
    check_table(file.size, file.piece_size, file.table, file.name)
    for patch in file.patches:
        if patch.source == file.blob:
            raise FormatError(f"{courseware_id}/{file.name}: a patch is from the blob itself")
        check_table(patch.size, PIECE_SIZE, patch.table, f"a patch of {courseware_id}/{file.name}")
