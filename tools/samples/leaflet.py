"""小麦病虫害防治明白纸: a PDF of one page, written by hand.

The Chinese font is named, not carried (STSong-Light with UniGB-UTF16-H, one of the standard CID fonts), so readers
put in their own; the file stays at a few kilobytes.
"""

from __future__ import annotations

from pathlib import Path

_ROWS = (
    ("病虫害", "看什么", "防治时期", "怎么防"),
    ("条锈病", "叶上黄色条状粉疱", "返青至抽穗", "三唑酮或戊唑醇喷雾"),
    ("赤霉病", "穗上粉红色霉层", "齐穗至初花", "氰烯菌酯，雨前施药"),
    ("纹枯病", "茎基云纹状病斑", "返青至拔节", "井冈霉素对准茎基部"),
    ("蚜虫", "叶背、穗部成群小虫", "百穗八百头时", "吡虫啉或啶虫脒喷雾"),
    ("红蜘蛛", "叶面黄白小点", "每尺单行二百头", "阿维菌素，中午前后"),
)
_NOTES = (
    "一、先查后打：每块地查五个点，达到指标再用药。",
    "二、足量兑水：每亩药液不少于三十公斤，喷匀喷透。",
    "三、看天施药：风力三级以下、无雨的上午九点后或下午四点后。",
    "四、注意安全：戴口罩手套，空瓶带回，采收前停药。",
)
_LEFT, _TOP, _WIDTHS, _ROW_HIGH = 50, 640, (74, 150, 110, 161), 34


def write_leaflet(path: Path) -> None:
    """Write the leaflet."""
    content = "\n".join([*_banner(), *_table(), *_ear_of_wheat(), *_advice()]).encode("ascii")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (zh-CN) >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
            b"/Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UTF16-H /DescendantFonts [6 0 R] >>",
        (
            b"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light /FontDescriptor 7 0 R /DW 1000 "
            b"/CIDSystemInfo << /Registry (Adobe) /Ordering (GB1) /Supplement 4 >> >>"
        ),
        (
            b"<< /Type /FontDescriptor /FontName /STSong-Light /Flags 6 /FontBBox [-25 -254 1000 880] "
            b"/ItalicAngle 0 /Ascent 880 /Descent -120 /CapHeight 880 /StemV 93 >>"
        ),
        b"<< /Title <FEFF%s> /Producer (yuanjiao samples) >>" % _hex("小麦病虫害防治明白纸").encode("ascii"),
    ]
    path.write_bytes(_assemble(objects))


def _banner() -> list[str]:
    return [
        "0.15 0.47 0.33 rg 0 752 595 90 re f",
        "0.96 0.78 0.33 rg 0 744 595 8 re f",
        "1 1 1 rg",
        _text("小麦病虫害防治明白纸", 50, 790, 30),
        _text("远教课件 · 种植技术 · 贴在村头看得见的地方", 52, 764, 13),
        "0.2 0.22 0.25 rg",
        _text("抽穗到灌浆是保产量的关键二十天，勤下地、早发现、早防治。", 50, 706, 15),
    ]


def _table() -> list[str]:
    width = sum(_WIDTHS)
    out = []
    for n, row in enumerate(_ROWS):
        y = _TOP - n * _ROW_HIGH
        shade = "0.15 0.47 0.33" if n == 0 else "0.93 0.96 0.92" if n % 2 else "1 1 1"
        out += [f"{shade} rg {_LEFT} {y} {width} {_ROW_HIGH} re f", "1 1 1 rg" if n == 0 else "0.2 0.22 0.25 rg"]
        x = _LEFT
        for cell, wide in zip(row, _WIDTHS, strict=True):
            out.append(_text(cell, x + 8, y + 12, 14 if n == 0 else 12))
            x += wide
    bottom = _TOP - (len(_ROWS) - 1) * _ROW_HIGH
    out.append(f"0.6 0.66 0.6 RG 0.8 w {_LEFT} {bottom} {width} {_ROW_HIGH * len(_ROWS)} re S")
    x = _LEFT
    for wide in _WIDTHS[:-1]:
        x += wide
        out.append(f"{x} {bottom} m {x} {_TOP + _ROW_HIGH} l S")
    return out


def _ear_of_wheat() -> list[str]:
    """An ear drawn from curves, healthy on the left, with rust on the right."""
    out = []
    for x, grain in ((478, "0.9 0.72 0.28"), (530, "0.78 0.45 0.3")):
        out.append(f"0.45 0.6 0.3 RG 4 w {x} 120 m {x + 6} 220 {x - 4} 260 {x} 320 c S")
        out.append(f"{grain} rg")
        for n in range(6):
            y = 300 + n * 16
            for side in (-1, 1):
                tip = x + side * 20
                out.append(f"{x} {y} m {tip} {y + 2} {tip} {y + 18} {x} {y + 22} c f")
    return out


def _advice() -> list[str]:
    out = ["0.2 0.22 0.25 rg", _text("四条要领", 50, 400, 18)]
    out += [_text(note, 50, 366 - n * 30, 13) for n, note in enumerate(_NOTES)]
    out += ["0.5 0.52 0.55 rg", _text("用药以当地植保站通知为准。", 50, 60, 11)]
    return out


def _text(text: str, x: int, y: int, size: int) -> str:
    return f"BT /F1 {size} Tf {x} {y} Td <{_hex(text)}> Tj ET"


def _hex(text: str) -> str:
    return text.encode("utf-16-be").hex().upper()


def _assemble(objects: list[bytes]) -> bytes:
    out = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
    starts = []
    for number, body in enumerate(objects, 1):
        starts.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % start for start in starts)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (len(objects) + 1, len(objects))
    out += b"startxref\n%d\n%%%%EOF\n" % table
    return bytes(out)
