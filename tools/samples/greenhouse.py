"""大棚蔬菜种植: tomatoes grow under an arch, drip lines run, figures move."""

from __future__ import annotations

import math

from tools.samples.canvas import Canvas, blend, rgb
from tools.samples.clip import HEIGHT, WIDTH

SECONDS = 24
GROUND = 286

_GREEN = rgb(58, 140, 62)
_LEAF = rgb(84, 172, 80)
_STAKE = rgb(196, 164, 116)


class Greenhouse:
    """Draws the lesson."""

    def __init__(self) -> None:
        self._back = self._house()

    def draw(self, at_s: float) -> Canvas:
        """The picture at a moment."""
        share = at_s / SECONDS
        canvas = self._back.copy()
        for n in range(7):
            _tomato(canvas, 70 + n * 84, min(1.0, share * 1.5 + 0.12 + 0.03 * (n % 3)), at_s + n)
        self._water(canvas, at_s)
        self._panel(canvas, share, at_s)
        return canvas

    def _house(self) -> Canvas:
        canvas = Canvas.blank(WIDTH, HEIGHT)
        canvas.gradient(0, GROUND, rgb(196, 226, 240), rgb(238, 246, 236))
        canvas.oval(320, GROUND, 312, 262, rgb(226, 240, 232))
        for n in range(9):  # ribs of the arch, nearer ones wider
            across, high = 312 - n * 26, 262 - n * 20
            for step in range(60):
                a, b = math.pi * step / 60, math.pi * (step + 1) / 60
                canvas.stroke(
                    (320 - across * math.cos(a), GROUND - high * math.sin(a)),
                    (320 - across * math.cos(b), GROUND - high * math.sin(b)),
                    5 - n * 0.4,
                    blend(rgb(120, 140, 150), rgb(206, 222, 222), n / 9),
                )
        canvas.gradient(GROUND, HEIGHT, rgb(132, 92, 58), rgb(86, 58, 36))
        for row in range(3):
            canvas.oval(320, GROUND + 14 + row * 26, 330, 8, rgb(110, 74, 46))
        canvas.rect(20, GROUND - 4, 600, 4, rgb(52, 58, 64))  # the drip line
        return canvas

    def _water(self, canvas: Canvas, at_s: float) -> None:
        for n in range(14):
            fall = (at_s * 1.3 + n * 0.37) % 1.0
            canvas.oval(48 + n * 42, GROUND + 2 + fall * 22, 2.5, 4, rgb(70, 150, 226))
            if fall > 0.85:
                canvas.oval(48 + n * 42, GROUND + 26, 9 * (fall - 0.7) * 3, 2, rgb(96, 120, 150))

    def _panel(self, canvas: Canvas, share: float, at_s: float) -> None:
        canvas.rect(20, 16, 176, 70, rgb(28, 52, 62))
        canvas.rect(22, 18, 172, 66, rgb(240, 246, 244))
        warm, damp = 22 + 6 * math.sin(share * math.pi), 68 + 9 * math.sin(at_s / 3)
        canvas.digits(f"{warm:.1f}°", 34, 28, 3, rgb(206, 74, 52))
        canvas.digits(f"{damp:.0f}%", 130, 28, 3, rgb(46, 118, 190))
        canvas.rect(34, 62, 148, 10, rgb(206, 216, 214))
        canvas.rect(34, 62, 148 * share, 10, rgb(60, 160, 96))
        canvas.rect(0, 352, WIDTH, 8, rgb(40, 48, 52))
        canvas.rect(0, 352, WIDTH * share, 8, rgb(88, 190, 110))


def _tomato(canvas: Canvas, x: float, grown: float, at_s: float) -> None:
    """One plant at its stake: a vine, leaves in pairs, trusses that turn red from below."""
    high = 168 * grown
    canvas.rect(x - 2, GROUND - 190, 4, 190, _STAKE)
    sway = 2 * math.sin(at_s * 1.4)
    canvas.rect(x - 2 + sway / 2, GROUND - high, 5, high, _GREEN)
    for n in range(int(high // 24)):
        y = GROUND - 18 - n * 24
        reach = min(30.0, (high - n * 24) * 0.5)
        for side in (-1, 1):
            canvas.oval(x + side * reach * 0.5 + sway, y - 3, reach * 0.48, reach * 0.24, _LEAF)
            canvas.run(y - 3, x, x + side * reach * 0.8 + sway, _GREEN)
        ripe = max(0.0, min(1.0, (grown - 0.45 - n * 0.08) * 4))
        size = max(0.0, min(9.0, (grown - 0.3 - n * 0.06) * 26))
        if size > 2 and n < 6:
            side = 1 if n % 2 else -1
            canvas.oval(x + side * 16 + sway, y + 8, size, size, blend(rgb(150, 196, 84), rgb(222, 52, 40), ripe))
            canvas.oval(x + side * 16 + sway - size / 3, y + 8 - size / 3, size / 4, size / 4, rgb(255, 236, 220))
