"""村级财务管理: a ledger whose columns grow, a share in rings, coins that are counted."""

from __future__ import annotations

import math

from tools.samples.canvas import Canvas, blend, rgb
from tools.samples.clip import HEIGHT, WIDTH

SECONDS = 20

_INK = rgb(52, 60, 72)
_INCOME = (32, 46, 41, 58, 66, 79)
_SPENT = (28, 35, 44, 40, 52, 57)


class Ledger:
    """Draws the lesson."""

    def __init__(self) -> None:
        self._page = self._paper()

    def draw(self, at_s: float) -> Canvas:
        """The picture at a moment."""
        share = at_s / SECONDS
        canvas = self._page.copy()
        self._columns(canvas, share)
        self._ring(canvas, share)
        self._coins(canvas, at_s)
        canvas.rect(0, 352, WIDTH, 8, rgb(40, 48, 52))
        canvas.rect(0, 352, WIDTH * share, 8, rgb(226, 120, 60))
        return canvas

    def _paper(self) -> Canvas:
        canvas = Canvas.blank(WIDTH, HEIGHT)
        canvas.gradient(0, HEIGHT, rgb(44, 74, 96), rgb(26, 44, 62))
        canvas.rect(26, 22, 588, 316, rgb(14, 26, 38))
        canvas.rect(22, 18, 588, 316, rgb(252, 250, 242))
        canvas.rect(22, 18, 588, 34, rgb(190, 62, 50))
        canvas.digits("2026", 40, 24, 3, rgb(255, 244, 226))
        for row in range(80, 320, 24):
            canvas.rect(40, row, 360, 1, rgb(214, 206, 190))
        canvas.rect(40, 308, 360, 3, _INK)
        canvas.rect(424, 70, 2, 250, rgb(214, 206, 190))
        for n in range(6):
            canvas.digits(str(n + 1), 68 + n * 56, 314, 2, _INK)
        return canvas

    def _columns(self, canvas: Canvas, share: float) -> None:
        for n, (income, spent) in enumerate(zip(_INCOME, _SPENT, strict=True)):
            grown = max(0.0, min(1.0, share * 6.6 - n * 0.8))
            grown = 1 - (1 - grown) ** 3
            for offset, value, colour in ((0, income, rgb(64, 142, 108)), (20, spent, rgb(232, 152, 62))):
                high = value * 2.6 * grown
                canvas.rect(54 + n * 56 + offset, 308 - high, 17, high, colour)
                canvas.rect(54 + n * 56 + offset, 308 - high, 5, high, blend(colour, rgb(255, 255, 255), 0.25))
            if grown > 0.98:
                canvas.digits(str(income), 52 + n * 56, 292 - income * 2.6, 1, _INK)
        if share > 0.82:  # the trend, drawn from left to right
            reach = min(1.0, (share - 0.82) * 8) * (len(_INCOME) - 1)
            for n in range(math.ceil(reach)):
                part = min(1.0, reach - n)
                y1, y2 = 276 - _INCOME[n] * 2.6, 276 - _INCOME[n + 1] * 2.6
                x1 = 62 + n * 56
                canvas.stroke((x1, y1), (x1 + 56 * part, y1 + (y2 - y1) * part), 3, rgb(200, 50, 60))

    def _ring(self, canvas: Canvas, share: float) -> None:
        full = math.tau * min(1.0, share * 1.6)
        for start, stop, colour in (
            (0.0, 0.46, rgb(64, 142, 108)),
            (0.46, 0.78, rgb(232, 152, 62)),
            (0.78, 1.0, rgb(86, 134, 196)),
        ):
            a, b = full * start, full * stop
            steps = max(2, int((b - a) * 8))
            turns = [a + (b - a) * n / steps - math.pi / 2 for n in range(steps + 1)]
            outer = [(516 + 74 * math.cos(t), 148 + 74 * math.sin(t)) for t in turns]
            canvas.shape([*outer, (516, 148)], colour)
        canvas.oval(516, 148, 40, 40, rgb(252, 250, 242))
        canvas.digits(f"{round(46 * min(1.0, share * 1.6)):2d}%", 489, 138, 3, _INK)

    def _coins(self, canvas: Canvas, at_s: float) -> None:
        for n in range(min(30, int(at_s * 1.6))):
            stack, level = n % 5, n // 5
            x, y = 446 + stack * 36, 312 - level * 8
            canvas.oval(x, y, 15, 5, rgb(150, 104, 30))
            canvas.oval(x, y - 3, 15, 5, rgb(246, 200, 84))
