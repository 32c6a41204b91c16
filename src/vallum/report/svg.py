"""Figures as SVG: text, lines and little else; colours are CSS variables, so that a page can be light or dark."""

from __future__ import annotations

from vallum.report.figure import COLOURS, Chart, Dots, Figure
from vallum.report.svg_chart import chart, place_of
from vallum.report.svg_parts import swatch
from vallum.report.svg_rows import dots, grid

__all__ = ["alone", "draw", "place_of", "swatch"]

# A file on its own has no page to give it colours.
ALONE = (
    "<style>svg{--ink:#1b1f24;--soft:#5b6470;--line:#d9dee4;--paper:#fff;font:12px system-ui,sans-serif;"
    "background:var(--paper)}@media(prefers-color-scheme:dark){svg{--ink:#e8ebee;--soft:#a2abb5;--line:#343b43;"
    "--paper:#14181c}}%s</style>"
)
STYLE = (
    "text{fill:var(--ink)}.s{fill:var(--soft)}.g{stroke:var(--line)}.h{stroke:var(--paper);stroke-width:1.5}"
    ".l{fill:none;stroke-width:2}.e{stroke-width:1.5}.b{opacity:.15}"
)


def alone(figure: Figure) -> str:
    """A figure as a file of its own, with its title and what its colours mean."""
    parts = draw(figure, legend=True)
    colours = "".join(f"svg{{--c{i}:{colour}}}" for i, colour in enumerate(COLOURS))
    return parts.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        "</title>", "</title>" + ALONE % (STYLE + colours), 1
    )


def draw(figure: Figure, *, legend: bool = False) -> str:
    """A figure as an <svg> element; with `legend` its title and the names of its series are part of it."""
    if isinstance(figure, Chart):
        return chart(figure, legend)
    return dots(figure, legend) if isinstance(figure, Dots) else grid(figure, legend)
