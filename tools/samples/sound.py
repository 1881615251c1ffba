"""Sound for the sample lessons: a slow tune on the five-tone scale, each note struck once and computed once."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from fractions import Fraction

import av

RATE = 48_000
NOTE_S = 0.5
FRAME_SAMPLES = 1024

_SCALE = (0, 2, 4, 7, 9, 12, 14, 16)  # semitones


def tune(seed: int, seconds: float) -> Iterator[av.AudioFrame]:
    """Stereo frames of a tune that differs by seed."""
    notes = [_note(220 * 2 ** ((_SCALE[n] + seed % 5) / 12)) for n in range(len(_SCALE))]
    pending = bytearray()
    at = step = 0
    while at < seconds * RATE:
        while len(pending) < FRAME_SAMPLES * 4:
            # A fixed walk over the scale: neighbours mostly, a leap now and then.
            pending += notes[(step * 3 + step * step * (seed + 1) // 7) % len(notes)]
            step += 1
        frame = av.AudioFrame(format="fltp", layout="stereo", samples=FRAME_SAMPLES)
        for plane in frame.planes:
            plane.update(bytes(pending[: FRAME_SAMPLES * 4]))
        del pending[: FRAME_SAMPLES * 4]
        frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
        at += FRAME_SAMPLES
        yield frame


def _note(pitch: float) -> bytes:
    samples = int(NOTE_S * RATE)
    turn = 2 * math.pi * pitch / RATE
    loudness = (0.22 * min(1.0, n / 400) * math.exp(-3.2 * n / samples) for n in range(samples))
    wave = (math.sin(turn * n) + 0.35 * math.sin(2 * turn * n) for n in range(samples))
    return array("f", (a * b for a, b in zip(loudness, wave, strict=True))).tobytes()
