"""冬小麦田间管理: a field through its year, with a title page of eight seconds before it.

The field is made of fine texture that moves with the wind, so the lesson has a few megabits a second like a real one.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

from tools.samples.canvas import Canvas, Colour, blend, rgb
from tools.samples.clip import HEIGHT, WIDTH

SECONDS = 68
TITLE_S = 8
HORIZON = 170

_SKY = [(rgb(255, 170, 110), rgb(255, 226, 190)), (rgb(70, 150, 230), rgb(200, 228, 250))]
_STEM, _GOLD = rgb(88, 158, 62), rgb(244, 206, 96)
_WINTER_SKY = (rgb(150, 165, 185), rgb(225, 230, 236))
# Season by season: soil, seedling, snow, regreening, jointing, heading, ripe.
_SEASONS: list[tuple[float, Colour]] = [
    (0.00, rgb(120, 84, 52)),
    (0.18, rgb(126, 128, 62)),
    (0.34, rgb(214, 218, 222)),
    (0.46, rgb(104, 150, 62)),
    (0.64, rgb(66, 142, 52)),
    (0.80, rgb(150, 164, 62)),
    (1.00, rgb(222, 178, 70)),
]


class WheatField:
    """Draws the lesson; everything that can be made once is made here."""

    def __init__(self) -> None:
        dice = random.Random(20261124)  # noqa: S311 - texture, not a secret
        self._noise = [dice.randbytes(WIDTH + 512) for _ in range(HEIGHT - HORIZON)]
        # Grain of the field: noise brought to a narrow band, by table, a thousand times faster than by sum.
        self._bands = [
            bytes(max(16, min(235, base + (value - 128) * 30 // 128)) for value in range(256)) for base in range(256)
        ]
        self._stalks = sorted(
            (dice.uniform(0.3, 1.0), n * 25 + dice.uniform(2, 22), dice.uniform(0, math.tau)) for n in range(25)
        )
        self._flakes = [(dice.uniform(0, WIDTH), dice.uniform(0, HEIGHT), dice.uniform(1, 3)) for _ in range(90)]
        self._skies = [self._sky(step / 24) for step in range(25)]
        self._cover = self._title_page()
        self._drills = [_drill_masks(row) for row in range(HEIGHT - HORIZON)]

    def draw(self, at_s: float) -> Canvas:
        """The picture at a moment."""
        if at_s < TITLE_S:
            return self._title(at_s / TITLE_S, at_s)
        share = (at_s - TITLE_S) / (SECONDS - TITLE_S)
        canvas = self._skies[min(24, int(share * 25))].copy()
        self._sun(canvas, share)
        self._field(canvas, share, at_s)
        self._plants(canvas, share, at_s)
        self._snow(canvas, share, at_s)
        self._bar(canvas, share)
        return canvas

    def _sky(self, share: float) -> Canvas:
        canvas = Canvas.blank(WIDTH, HEIGHT)
        light = 1 - abs(share * 2 - 1) ** 9
        cold = max(0.0, 1 - abs(share - 0.34) / 0.12)
        upper = blend(blend(_SKY[0][0], _SKY[1][0], light), _WINTER_SKY[0], cold)
        lower = blend(blend(_SKY[0][1], _SKY[1][1], light), _WINTER_SKY[1], cold)
        canvas.gradient(0, HORIZON, upper, lower)
        self._hills(canvas, share)
        return canvas

    def _title_page(self) -> Canvas:
        canvas = Canvas.blank(WIDTH, HEIGHT)
        canvas.gradient(0, HEIGHT, rgb(18, 92, 74), rgb(10, 44, 52))
        for ray in range(12):
            turn = ray * math.tau / 12 + 0.36
            points = [(320.0, 150.0)]
            points += [(320 + 520 * math.cos(turn + d), 150 + 520 * math.sin(turn + d)) for d in (-0.07, 0.07)]
            canvas.shape(points, rgb(24, 112, 86))
        canvas.oval(320, 150, 92, 92, rgb(246, 200, 84))
        canvas.oval(320, 150, 84, 84, rgb(252, 224, 140))
        canvas.digits("01", 270, 112, 9, rgb(150, 88, 20))
        canvas.rect(0, 330, WIDTH, 30, rgb(92, 62, 36))
        return canvas

    def _title(self, share: float, at_s: float) -> Canvas:
        canvas = self._cover.copy()
        for n in range(9):
            grown = max(0.0, min(1.0, share * 3 - n * 0.12))
            _plant(canvas, 120 + n * 50, 330, 74 * grown, math.sin(at_s * 1.6 + n) * 6, 1.0, _STEM, _GOLD)
        canvas.rect(0, 352, WIDTH * share, 8, rgb(255, 255, 255))
        return canvas

    def _sun(self, canvas: Canvas, share: float) -> None:
        x, y = 40 + share * 560, 118 - 84 * math.sin(share * math.pi)
        canvas.oval(x, y, 30, 30, rgb(255, 232, 150))
        canvas.oval(x, y, 24, 24, rgb(255, 214, 74))
        for n, speed in enumerate((14, 22, 9)):
            cloud = (n * 230 + share * 60 * speed) % (WIDTH + 160) - 80
            for dx, dy, size in ((-26, 6, 18), (0, 0, 26), (28, 5, 20)):
                canvas.oval(cloud + dx, 44 + n * 26 + dy, size * 1.5, size * 0.6, rgb(250, 250, 252))

    def _hills(self, canvas: Canvas, share: float) -> None:
        far = blend(rgb(110, 140, 150), _season(share), 0.25)
        points = [(x, HORIZON - 14 - 12 * math.sin(x / 90) - 7 * math.sin(x / 37)) for x in range(0, WIDTH + 1, 20)]
        canvas.shape([(0, HORIZON), *points, (WIDTH, HORIZON)], far)
        for n, x in enumerate((70, 96, 118, 498, 530, 566)):  # a village and its trees
            canvas.rect(x, HORIZON - 16, 18, 16, rgb(196, 120, 88) if n % 2 else rgb(226, 222, 210))
            canvas.shape([(x - 4, HORIZON - 16), (x + 9, HORIZON - 27), (x + 22, HORIZON - 16)], rgb(120, 66, 54))

    def _field(self, canvas: Canvas, share: float, at_s: float) -> None:
        base, blue, red = _season(share)
        soil = blend(_season(share), rgb(84, 58, 38), 0.45)
        for row, (noise, (crop, drill, crop_half, drill_half)) in enumerate(
            zip(self._noise, self._drills, strict=True)
        ):
            near = row / len(self._noise)
            shade = round(base * (0.82 + 0.25 * near) + 5 * math.sin(row / 5 - at_s * 2))
            shift = int(256 + 200 * near * math.sin(at_s * 0.35 + row / 40)) // 2
            grain = int.from_bytes(noise[shift : shift + WIDTH].translate(self._bands[min(255, shade)]))
            at = (HORIZON + row) * WIDTH
            canvas.luma[at : at + WIDTH] = (grain & crop * 255 | drill * soil[0]).to_bytes(WIDTH)
            if not row & 1:
                at = (HORIZON + row >> 1) * (WIDTH // 2)
                for plane, leaf, earth in ((canvas.blue, blue, soil[1]), (canvas.red, red, soil[2])):
                    plane[at : at + WIDTH // 2] = (crop_half * leaf + drill_half * earth).to_bytes(WIDTH // 2)

    def _plants(self, canvas: Canvas, share: float, at_s: float) -> None:
        grown = min(1.0, max(0.0, share * 1.25 - 0.1)) ** 1.2
        stem = blend(rgb(24, 92, 30), rgb(170, 120, 36), (share - 0.7) * 4)
        ear = blend(rgb(150, 190, 80), rgb(250, 206, 92), (share - 0.7) * 4) if share > 0.6 else None
        for depth, x, phase in self._stalks:
            foot = HORIZON + 30 + depth * (HEIGHT - HORIZON - 34)
            sway = math.sin(at_s * 1.9 + phase) * 9 * depth * grown
            _plant(canvas, x, foot, 132 * depth * grown, sway, depth * 1.4, stem, ear)

    def _snow(self, canvas: Canvas, share: float, at_s: float) -> None:
        if abs(share - 0.34) > 0.1:
            return
        for x, y, size in self._flakes:
            top = (y + at_s * 38 * size) % HEIGHT
            canvas.rect((x + 14 * math.sin(at_s + y)) % WIDTH, top, size + 1, size + 1, rgb(250, 252, 255))

    def _bar(self, canvas: Canvas, share: float) -> None:
        """A thermometer on the right, the year's progress below."""
        warm = 26 - 30 * max(0.0, 1 - abs(share - 0.34) / 0.34) + share * 6
        canvas.rect(588, 24, 12, 96, rgb(248, 248, 248))
        level = max(4.0, min(90.0, (warm + 10) * 2.2))
        canvas.rect(591, 118 - level, 6, level, rgb(214, 58, 46))
        canvas.oval(594, 124, 10, 10, rgb(214, 58, 46))
        canvas.digits(f"{round(warm):+d}°", 506, 30, 3, rgb(40, 44, 52))
        canvas.rect(0, 352, WIDTH, 8, rgb(40, 48, 52))
        canvas.rect(0, 352, WIDTH * share, 8, rgb(250, 190, 60))


def _drill_masks(row: int) -> tuple[int, int, int, int]:
    """Masks of a row of the field as big numbers with one byte per pixel: crop and drill, whole and half width.

    A whole row is then mixed by a multiplication and an addition instead of by thirteen runs.
    """
    drill = bytearray(WIDTH)
    for n in range(-6, 7):
        middle, half = WIDTH / 2 + n * (14 + row * 0.43), 1 + row * 0.05
        for x in range(max(0, round(middle - half)), min(WIDTH, round(middle + half))):
            drill[x] = 1
    halved = drill[::2]
    return (
        int.from_bytes(bytes(1 - one for one in drill)),
        int.from_bytes(drill),
        int.from_bytes(bytes(1 - one for one in halved)),
        int.from_bytes(halved),
    )


def _season(share: float) -> Colour:
    for (start, before), (stop, after) in pairwise(_SEASONS):
        if share <= stop:
            return blend(before, after, (share - start) / (stop - start))
    return _SEASONS[-1][1]


def _plant(
    canvas: Canvas, x: float, foot: float, high: float, sway: float, size: float, stem: Colour, ear: Colour | None
) -> None:
    """One plant, row by row: a stem that bends, two leaves, and grains when it has headed."""
    if high < 4:
        return
    reach = 18 * size + 4
    for row in range(max(0, int(foot - high)), int(foot)):
        share = (foot - row) / high
        middle = x + sway * share * share
        canvas.run(row, middle - size, middle + size, stem)
        if 0.22 < share < 0.66:
            away = reach * (share - 0.22) / 0.44
            canvas.run(row, middle - away - size, middle - away + size, stem)
            canvas.run(row, middle + away - size, middle + away + size, stem)
    if ear is not None:
        top = foot - high
        for n in range(int(30 * size)):
            wide = size * (2.2 + 2.6 * abs(math.sin(n * 0.52 / size))) * (1 - n / 70 / size)
            canvas.run(int(top - n), x + sway - wide, x + sway + wide, ear)
