"""From numbers to places on paper and to shades."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Cividis (Nunez, Anderton and Renslow 2018): the same order of brightness for every kind of colour vision.
CIVIDIS = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838")


@dataclass(frozen=True)
class Scale:
    """Numbers of an axis to places between `start` and `end`."""

    low: float
    high: float
    kind: str
    start: float
    end: float
    given: tuple[float, ...] = ()  # the numbers that are marked, if they are few

    @classmethod
    def over(cls, values: Sequence[float], kind: str, start: float, end: float) -> Scale:
        """An axis that holds these values, with some air where they do not begin at nothing."""
        low, high = min(values, default=0.0), max(values, default=1.0)
        if kind == "log" and low <= 0:
            kind = "linear"
        if low == high:
            low, high = (low / 2, high * 2) if kind == "log" else (low - 0.5, high + 0.5)
        air = 0.04 * (high - low)
        if kind == "log":
            low, high = low / 1.15, high * 1.15
        elif not (low == 0 and high == 1):
            low, high = (low if low == 0 else low - air), high + air
        few = tuple(sorted(set(values))) if len(set(values)) <= 8 else ()
        return cls(low, high, kind, start, end, few)

    def __call__(self, value: float) -> float:
        share = (self._at(value) - self._at(self.low)) / (self._at(self.high) - self._at(self.low))
        return self.start + (1 - share if self.kind == "falling" else share) * (self.end - self.start)

    def _at(self, value: float) -> float:
        return math.log(value) if self.kind == "log" else value

    def ticks(self) -> list[float]:
        """What to write along it: the values themselves where they are few and far enough apart, else round numbers."""
        if self.given and self.given != (0.0, 1.0):
            kept: list[float] = []
            for value in reversed(self.given):  # from the strongest: weak ones crowd near nothing
                if all(abs(self(value) - self(other)) >= 36 for other in kept):
                    kept.append(value)
            return sorted(kept)
        if self.kind == "log":
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [m * 10.0**p for p in powers for m in (1, 2, 5)]
            return [value for value in found if self.low <= value <= self.high]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 2))
        step = next(step * m for m in (0.5, 1, 2, 5, 10) if (self.high - self.low) / (step * m) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [round(place * step, 10) for place in range(first, math.floor(self.high / step + 1e-9) + 1)]


def shade(share: float) -> tuple[str, str]:
    """The colour of a share in [0, 1], and that of text upon it.

    >>> shade(0.0), shade(1.0)
    (('#00224e', '#fff'), ('#fee838', '#000'))
    """
    place = min(max(share, 0.0), 1.0) * (len(CIVIDIS) - 1)
    below = min(int(place), len(CIVIDIS) - 2)
    parts = [
        round(
            int(CIVIDIS[below][i : i + 2], 16) * (1 - place + below)
            + int(CIVIDIS[below + 1][i : i + 2], 16) * (place - below)
        )
        for i in (1, 3, 5)
    ]
    linear = [(part / 255 / 12.92 if part < 10 else ((part / 255 + 0.055) / 1.055) ** 2.4) for part in parts]
    brightness = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    ink = "#fff" if 1.05 / (brightness + 0.05) > (brightness + 0.05) / 0.05 else "#000"  # WCAG's contrast
    return "#" + "".join(f"{part:02x}" for part in parts), ink
