"""What all figures in SVG are made of: text, markers, and the element itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from vallum.errors import printable
from vallum.report.figure import COLOURS, Series

LETTER = 7.2  # about the width of one, in twelve pixels
MARKERS = 6  # shapes of them
DASHES = ("", "5 3", "2 2", "8 3 2 3")


def colour(series: Series) -> str:
    """A CSS variable, so that a page can be light or dark."""
    return f"var(--c{series.colour % len(COLOURS)})"


def dash(series: Series) -> str:
    """The attribute that tells lines apart without their colours."""
    pattern = DASHES[series.style % len(DASHES)]
    return f' stroke-dasharray="{pattern}"' if pattern else ""


def marker(x: float, y: float, series: Series, size: float) -> str:
    """One of six shapes, of about this size."""
    fill, r, arm = colour(series), size, 0.8 * size
    drawn = (
        f'<circle class="h" cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{fill}"/>',
        f'<path class="h" fill="{fill}" d="M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z"/>',
        f'<path class="h" fill="{fill}" d="M{x:.1f} {y - 1.2 * r:.1f}l{1.2 * r:g} {2.2 * r:g}h{-2.4 * r:g}z"/>',
        f'<path class="h" fill="{fill}" d="M{x:.1f} {y - 1.3 * r:.1f}l{1.3 * r:g} {1.3 * r:g}l{-1.3 * r:g} '
        f'{1.3 * r:g}l{-1.3 * r:g} {-1.3 * r:g}z"/>',
        f'<path class="h" fill="{fill}" d="M{x:.1f} {y + 1.2 * r:.1f}l{1.2 * r:g} {-2.2 * r:g}h{-2.4 * r:g}z"/>',
        f'<path class="h" fill="{fill}" d="M{x - r / 2:.1f} {y - 1.3 * r:.1f}h{r}v{arm:g}h{arm:g}v{r}h{-arm:g}'
        f'v{arm:g}h{-r}v{-arm:g}h{-arm:g}v{-r}h{arm:g}z"/>',
    )
    return drawn[series.style % len(drawn)]


def swatch(series: Series) -> str:
    """A series' line and marker, for a legend."""
    line = f'<path class="l" stroke="{colour(series)}"{dash(series)} d="M0 7H26"/>' if series.joined else ""
    size = 'viewBox="0 0 26 14" width="26" height="14" aria-hidden="true"'
    return f'<svg class="swatch" {size}>{line}{marker(13, 7, series, 4.5)}</svg>'


def element(title: str, box: str, parts: Sequence[str], kind: str, width: float | None = None) -> str:
    """The whole, named for those who cannot see it."""
    size = "" if width is None else f' width="{width:.0f}"'
    named = f'role="img" aria-label="{safe(title)}"'
    return f'<svg class="{kind}" viewBox="{box}"{size} {named}><title>{safe(title)}</title>{"".join(parts)}</svg>'


def text(x: float, y: float, words: str, anchor: str, style: str = "", kind: str = "") -> str:
    """Words at a place."""
    said = f' class="{kind}"' if kind else ""
    said += f' style="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{said}>{safe(words)}</text>'


def safe(text: str) -> str:
    """Names come from outside: nothing in them is markup, nothing steers."""
    return escape(printable(text))


def short(value: float) -> str:
    """A number on an axis; eps in units of 1/255 as people write them.

    >>> short(8 / 255), short(0.2), short(0.0)
    ('8/255', '0.2', '0')
    """
    whole = round(value * 255)
    if round(value, 3) != value and math.isclose(whole / 255, value, rel_tol=1e-9):
        return f"{whole}/255"
    return f"{value:.4g}"
