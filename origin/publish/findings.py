"""Looking into the files that were handed in: their kind, whether terminals play them, what must be done if not.

All of them are looked at before any of them is worked on, so bad input is refused before it costs anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from origin.publish.articles import parse_article
from origin.publish.media import plan_faststart_of_file, probe
from origin.publish.source import Reader, Source, Stamp, bytes_source, file_source, stamp_of
from origin.publish.subtitles import to_webvtt
from origin.publish.together import run_together
from origin.publish.treatment import Finding

PROBES_AT_ONCE = 2  # each is a process of its own


async def find_out(paths: Sequence[Path], deadline_s: float) -> tuple[Finding, ...]:
    """Look into files, in the order given.

    Raises:
        InputError: bad data; the first file that is refused says why.
    """
    room = asyncio.Semaphore(PROBES_AT_ONCE)
    # Stamps first: what happens to a file from now on is a change, and a missing file is told at once.
    stamps = [await asyncio.to_thread(stamp_of, path) for path in paths]

    async def look(path: Path, stamp: Stamp) -> Finding:
        async with room:
            return await _look(path, stamp, deadline_s)

    return tuple(await run_together(*(look(path, stamp) for path, stamp in zip(paths, stamps, strict=True))))


async def _look(path: Path, stamp: Stamp, deadline_s: float) -> Finding:
    found = await probe(path, deadline_s)
    original = file_source(path, stamp)
    if found.kind == "article":
        data = await asyncio.to_thread(_read, original)
        article = parse_article(data)
        text = article.encode()
        return Finding(path, found, original, converted=_unless_same(text, data, path), article=article)
    if found.kind == "subtitle":
        data = await asyncio.to_thread(_read, original)
        return Finding(path, found, original, converted=_unless_same(_webvtt(data), data, path))
    if found.plays and not found.faststart:
        return Finding(path, found, original, moved=await _moved(path, stamp))
    return Finding(path, found, original)


async def _moved(path: Path, stamp: Stamp) -> Source | None:
    plan = await plan_faststart_of_file(path)
    return None if plan is None else Source(path.name, plan.parts, path, stamp)


def _unless_same(text: bytes, data: bytes, path: Path) -> Source | None:
    return None if text == data else bytes_source(text, path.name)


def _webvtt(data: bytes) -> bytes:
    # WebVTT that is one already keeps its styles and notes: only other forms are rewritten.
    if data.startswith(b"WEBVTT"):
        with suppress(UnicodeDecodeError):
            data.decode()
            return data
    return to_webvtt(data).encode()


def _read(source: Source) -> bytes:
    with Reader(source) as reader:
        buffer = bytearray(source.size)
        reader.readinto(memoryview(buffer))
        return bytes(buffer)
