"""What people who mean no good hand in: names, bombs, files that are two things at once."""

from __future__ import annotations

import base64
import gzip
import io
import json
import shutil
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.console import CITY, Console, console_at
from support.drafts import make_draft, save
from support.media import make_png, png_bytes
from support.uploads import OCTETS, Sender, intake_of, sender

from origin.accounts.permissions import Role

SCRIPT = b"<script>alert(document.cookie)</script>"


@pytest.fixture
async def console(founded: Path, tmp_path: Path) -> AsyncIterator[Console]:
    root = Path(shutil.copytree(founded, tmp_path / "origin"))
    async with console_at(root, uploads_floor_bytes="0") as opened:
        yield opened


@pytest.fixture
async def studio(console: Console) -> Sender:
    return sender(await console.person("studio", Role.CONTRIBUTOR, CITY))


NAMES = (
    *("../../etc/passwd", "..", ".", "", "a/b.mp4", "a\\b.mp4", "/etc/passwd", "C:\\a.mp4", ".ssh", "a.mp4.", "a.mp4 "),
    *("a\r\nSet-Cookie: x=1.mp4", "a\nb.mp4", "a\0b.mp4", "a\u202e4pm.exe", "a\u200b.mp4", "con.mp4", "a\u0430.mp4"),
    *("<svg onload=alert(1)>.mp4", 'a".mp4', "a?.mp4", "课" * 80 + ".mp4", "place\n", "x" * 201),
)


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_could_lead_elsewhere_is_refused_before_the_first_byte(
    console: Console, studio: Sender, name: str
) -> None:
    told = await studio.create(name, 10)
    assert told.status == 400
    assert "Set-Cookie" not in told.headers
    assert json.loads(told.text)["error_zh"]
    assert not list(console.origin.paths.uploads.glob("*/*"))


@pytest.mark.parametrize(
    "metadata",
    [
        *("filename", "filename ***", "filename /w==", "filename YQ==,filename Yg==", "filename YQ== YQ=="),
        *(",", "filename\tYQ==", " ".join(["x"] * 50), ""),
    ],
)
async def test_metadata_that_is_none_is_refused(studio: Sender, metadata: str) -> None:
    told = await studio.ask("POST", "/api/v1/uploads", Upload_Length="10", Upload_Metadata=metadata)
    assert told.status == 400


@pytest.mark.parametrize("length", ["-1", "1e9", "0x10", " 5", "9" * 19, "9" * 400, "NaN", "٣"])
async def test_a_length_that_is_none_is_refused(studio: Sender, length: str) -> None:
    name = base64.b64encode(b"a.mp4").decode()
    fields = {"Upload_Length": length.strip() if length != " 5" else "5 5", "Upload_Metadata": f"filename {name}"}
    told = await studio.ask("POST", "/api/v1/uploads", **fields)
    assert told.status in {400, 413}


def _zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(50 << 20))
    return out.getvalue()


def _image_bomb() -> bytes:
    png = bytearray(png_bytes(8, 8, bytes(8 * 25)))
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(png)


REFUSED = {
    "包.zip": _zip_bomb(),
    "书.epub": _zip_bomb(),
    "文.docx": _zip_bomb(),
    "压.md": gzip.compress(bytes(50 << 20)),
    "炸.png": _image_bomb(),
    "页.html": b"<html>" + SCRIPT + b"</html>",
    "图.svg": b"<svg xmlns='http://www.w3.org/2000/svg'>" + SCRIPT + b"</svg>",
    "假.jpg": SCRIPT,
    "单.m3u8": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "片.mp4": b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/\n",
    "程.mp4": b"\x7fELF" + bytes(200),
    "程.exe": b"MZ" + bytes(200),
    "断.mp4": b"\x00\x00\x00\x20ftypisom" + bytes(100),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_courseware_is_refused_and_leaves_nothing(console: Console, studio: Sender, name: str) -> None:
    found = await studio.checked(await studio.whole(name, REFUSED[name]))
    assert found["state"] == "refused"
    assert found["reason_zh"]
    assert not list(console.origin.paths.uploads.glob("*/*"))


async def test_a_body_that_grows_on_the_way_is_not_unpacked(studio: Sender) -> None:
    path = await studio.begin("a.md", 50 << 20)
    packed = gzip.compress(bytes(50 << 20))
    for encoding in ("gzip", "deflate", "br", "zstd"):
        fields = {"Upload_Offset": "0", "Content_Type": OCTETS, "Content_Encoding": encoding}
        assert (await studio.ask("PATCH", path, packed, **fields)).status in {400, 415}
    assert (await studio.head(path)).offset == 0


async def test_what_is_written_into_a_picture_stays_in_it(studio: Sender, tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0" + SCRIPT * 20
    jpeg = b"\xff\xd8\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    jpeg += b"\xff\xc0\x00\x11\x08\x00\x08\x00\x08\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01" + bytes(20) + b"\xff\xd9"
    found = await studio.checked(await studio.whole("照片.jpg", jpeg))
    assert (found["state"], found["finding"]["media_type"]) == ("ready", "image/jpeg")
    png = make_png(tmp_path / "a.png").read_bytes()
    both = png[:33] + len(SCRIPT).to_bytes(4, "big") + b"tEXt" + SCRIPT + bytes(4) + png[33:]
    found = await studio.checked(await studio.whole("图.png", both))
    assert found["finding"]["media_type"] == "image/png"
    assert "<script>" not in json.dumps(found)


async def test_a_file_that_a_draft_is_made_of_stays_and_others_go(console: Console) -> None:
    browser = await console.person("studio", Role.CONTRIBUTOR, CITY)
    studio = sender(browser)
    paths = [await studio.whole(f"{number}.md", f"# 第 {number} 讲\n".encode()) for number in range(3)]
    for path in paths:
        await studio.checked(path)
    used = paths[1].rpartition("/")[2]
    draft = await make_draft(browser)
    await save(browser, draft, files=[{"upload": used, "name": "1.md"}])
    assert (await studio.look(paths[1]))["in_use"]
    assert (await studio.ask("DELETE", paths[1])).status == 409
    assert (await studio.ask("DELETE", paths[0])).status == 204
    console.clock.now += 20 * 86400
    assert await intake_of(console).sweep() == 1
    left = [one.parent.name for one in console.origin.paths.uploads.glob("*/*")]
    assert left == [used]
