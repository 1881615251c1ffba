"""A canvas for moving pictures without a drawing library: three planes of bytes, shapes as runs of rows.

Each row of a shape is one slice assignment, so a frame of a few thousand runs takes milliseconds. Colours are
(luma, blue, red) in BT.601's limited range; the two colour planes have half the width and height.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import av

Colour = tuple[int, int, int]
Point = tuple[float, float]

# Digits and a few signs, seven rows of five pixels, for page numbers, times and scales.
_GLYPHS = {
    "0": "0e11131519110e",
    "1": "040c040404040e",
    "2": "0e11010204081f",
    "3": "1f02040201110e",
    "4": "02060a121f0202",
    "5": "1f101e0101110e",
    "6": "0608101e11110e",
    "7": "1f010204080808",
    "8": "0e11110e11110e",
    "9": "0e11110f01020c",
    "%": "18190204081303",
    ":": "00040000000400",
    ".": "00000000000c0c",
    "+": "0004041f040400",
    "-": "0000001f000000",
    "/": "00010204081000",
    "°": "0c12120c000000",
    " ": "00000000000000",
}


def rgb(red: int, green: int, blue: int) -> Colour:
    """A colour from red, green and blue, 0 to 255 each."""
    luma = 16 + (66 * red + 129 * green + 25 * blue) // 256
    return luma, 128 + (-38 * red - 74 * green + 112 * blue) // 256, 128 + (112 * red - 94 * green - 18 * blue) // 256


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """The colour `share` of the way from `a` to `b`."""
    share = min(1.0, max(0.0, share))
    mixed = [round(x + (y - x) * share) for x, y in zip(a, b, strict=True)]
    return mixed[0], mixed[1], mixed[2]


@lru_cache(maxsize=20_000)
def _dots(value: int, count: int) -> bytes:
    return bytes((value,)) * count


@dataclass(slots=True)
class Canvas:
    """Planes of one picture; width and height are even."""

    width: int
    height: int
    luma: bytearray
    blue: bytearray
    red: bytearray

    @classmethod
    def blank(cls, width: int, height: int, colour: Colour = (16, 128, 128)) -> Canvas:
        """A canvas of one colour."""
        quarter = width * height // 4
        y, u, v = (bytes([part]) for part in colour)
        return cls(width, height, bytearray(y * (width * height)), bytearray(u * quarter), bytearray(v * quarter))

    def copy(self) -> Canvas:
        """The same picture, to draw on."""
        return Canvas(self.width, self.height, self.luma[:], self.blue[:], self.red[:])

    def run(self, row: int, left: float, right: float, colour: Colour) -> None:
        """One row of a shape, from `left` to `right`; what lies outside is cut off."""
        x, stop = max(0, int(left + 0.5)), min(self.width, int(right + 0.5))
        if x >= stop or not 0 <= row < self.height:
            return
        at = row * self.width
        self.luma[at + x : at + stop] = _dots(colour[0], stop - x)
        if not row & 1:
            half = x >> 1
            length = ((stop + 1) >> 1) - half
            at = (row >> 1) * (self.width >> 1) + half
            self.blue[at : at + length] = _dots(colour[1], length)
            self.red[at : at + length] = _dots(colour[2], length)

    def rect(self, left: float, top: float, width: float, height: float, colour: Colour) -> None:
        """A filled rectangle."""
        for row in range(round(top), round(top + height)):
            self.run(row, left, left + width, colour)

    def gradient(self, top: int, bottom: int, upper: Colour, lower: Colour) -> None:
        """Full rows from one colour to another."""
        for row in range(top, bottom):
            self.run(row, 0, self.width, blend(upper, lower, (row - top) / max(1, bottom - top - 1)))

    def oval(self, x: float, y: float, across: float, high: float, colour: Colour) -> None:
        """A filled ellipse around (x, y) with half-axes `across` and `high`."""
        for row in range(math.ceil(y - high), math.floor(y + high) + 1):
            reach = across * math.sqrt(max(0.0, 1 - ((row - y) / high) ** 2))
            self.run(row, x - reach, x + reach, colour)

    def shape(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon without holes; even-odd rule."""
        top, bottom = min(y for _, y in points), max(y for _, y in points)
        edges = list(zip(points, [*points[1:], points[0]], strict=True))
        for row in range(max(0, math.ceil(top)), min(self.height, math.floor(bottom) + 1)):
            middle = row + 0.01  # never exactly on a corner
            cuts = sorted(
                x1 + (middle - y1) * (x2 - x1) / (y2 - y1)
                for (x1, y1), (x2, y2) in edges
                if (y1 <= middle) != (y2 <= middle)
            )
            for left, right in zip(cuts[::2], cuts[1::2], strict=False):
                self.run(row, left, right, colour)

    def stroke(self, start: Point, stop: Point, thickness: float, colour: Colour) -> None:
        """A straight line."""
        (x1, y1), (x2, y2) = start, stop
        length = math.hypot(x2 - x1, y2 - y1) or 1.0
        dx, dy = -(y2 - y1) / length * thickness / 2, (x2 - x1) / length * thickness / 2
        self.shape([(x1 + dx, y1 + dy), (x2 + dx, y2 + dy), (x2 - dx, y2 - dy), (x1 - dx, y1 - dy)], colour)

    def digits(self, text: str, left: float, top: float, scale: int, colour: Colour) -> None:
        """Digits and signs, each 6 × 8 cells of `scale` pixels."""
        for n, char in enumerate(text):
            for row, bits in enumerate(bytes.fromhex(_GLYPHS[char])):
                for column in range(5):
                    if bits >> (4 - column) & 1:
                        x = left + (6 * n + column) * scale
                        self.rect(x, top + row * scale, scale, scale, colour)

    def frame(self) -> av.VideoFrame:
        """The picture as a video frame."""
        frame = av.VideoFrame(self.width, self.height, "yuv420p")
        for plane, data in zip(frame.planes, (self.luma, self.blue, self.red), strict=True):
            if plane.line_size == plane.width:
                plane.update(bytes(data))
            else:  # FFmpeg pads rows to what its processor instructions like
                gap = bytes(plane.line_size - plane.width)
                rows = (data[at : at + plane.width] for at in range(0, len(data), plane.width))
                plane.update(b"".join(bytes(row) + gap for row in rows))
        return frame

    def png(self) -> bytes:
        """The picture as a PNG file."""
        encoder = av.CodecContext.create("png", "w")
        if not isinstance(encoder, av.VideoCodecContext):
            raise TypeError("png makes pictures")
        encoder.width, encoder.height, encoder.pix_fmt = self.width, self.height, "rgb24"
        encoder.time_base = Fraction(1, 25)
        frame = self.frame().reformat(format="rgb24")
        frame.pts, frame.time_base = 0, encoder.time_base
        return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
