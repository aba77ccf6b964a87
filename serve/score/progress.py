"""How far a run is -> one line on a terminal: a bar, the rate, the time that is left.

Enters: counts of images. Leaves: text on a stream that is a terminal, and nothing on any other.
Does not know: what is counted.
"""

import time
from typing import TextIO

BAR_WIDTH = 24
INTERVAL_S = 0.2
"""Seconds between two lines."""


class Progress:
    """One line that is written over and over. `skipped` images count as done, and not for the rate."""

    def __init__(self, stream: TextIO, total: int | None) -> None:
        self._stream = stream
        self._total = total
        self._is_shown = stream.isatty()
        self._done = self._scored = 0
        self._started_s = time.monotonic()
        self._next_s = 0.0

    def skip(self, images: int) -> None:
        """Count images of an earlier run."""
        self._done += images

    def add(self, images: int) -> None:
        """Count images, and show it if the last line is old."""
        self._done += images
        self._scored += images
        now_s = time.monotonic()
        if self._is_shown and now_s >= self._next_s:
            self._next_s = now_s + INTERVAL_S
            self._write(describe(self._done, self._scored, self._total, now_s - self._started_s))

    def end(self) -> None:
        """Take the line away."""
        if self._is_shown:
            self._write("")

    def _write(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()


def describe(done: int, scored: int, total: int | None, elapsed_s: float) -> str:
    """The line: a bar and the time that is left if the total is known."""
    rate = scored / max(elapsed_s, 1e-9)
    if not total:
        return f"{done:,} images  {rate:,.0f} images/s"
    full = min(BAR_WIDTH, BAR_WIDTH * done // total)
    left = spell_time((total - done) / rate) if rate else "?"
    bar = "█" * full + "·" * (BAR_WIDTH - full)
    return f"{bar} {done:,} of {total:,}  {rate:,.0f} images/s  {left} left"


def spell_time(seconds: float) -> str:
    """A duration to the second, minute or hour."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
