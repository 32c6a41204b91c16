"""A study for papers, pull requests and other programs: Markdown, LaTeX, CSV, and figures as SVG files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from vallum.errors import printable
from vallum.evaluation.run import Run
from vallum.evaluation.statistics import Interval
from vallum.evaluation.store import write_text
from vallum.report import tables
from vallum.report.curves import curves, energies, median_snr, severities
from vallum.report.figure import Chart, Figure, Mark, Series
from vallum.report.headline import sentences
from vallum.report.heatmap import heatmaps
from vallum.report.kinds import figure
from vallum.report.study import Study, studies
from vallum.report.svg import alone

CAPTION = "{metric} in per cent on {n} images of {data}, with 95 % intervals"


def markdown(runs: Sequence[Run]) -> str:
    """Headline, rates and comparisons as GitHub draws them."""
    parts = []
    for study in studies(runs):
        parts += [f"- {_md(sentence)}" for sentence in sentences(study)]
        head = ["threat", *study.names]
        rows = [[_bold(row.threat, row.worst), *map(_cell, row.cells)] for row in tables.rates(study)]
        parts += ["", _caption(study), "", *_md_table(head, rows)]
        if pairs := tables.compared(study):
            head = ["threat", "first", "second", "second minus first", "p", "p, corrected"]
            rows = [
                [pair["threat"], pair["first"], pair["second"], _gain(pair), f"{pair['p']:.2g}", f"{pair['holm']:.2g}"]
                for pair in pairs
            ]
            parts += ["", f"{pairs[0]['test']}, corrected as Holm does", "", *_md_table(head, rows)]
        command = study.runs[0].environment.get("command")
        parts += ["", f"`{_md(str(command))}`", ""] if command else [""]
    return "\n".join(parts)


def latex(runs: Sequence[Run]) -> str:
    """A table for each study, with booktabs; the worst attack is bold."""
    parts = ["% \\usepackage{booktabs}"]
    for study in studies(runs):
        parts += ["\\begin{table}", "\\centering", f"\\caption{{{_tex(_caption(study))}}}"]
        parts += [f"\\begin{{tabular}}{{l{'r' * len(study.names)}}}", "\\toprule"]
        parts += [" & ".join(map(_tex, ["threat", *study.names])) + r" \\", "\\midrule"]
        for row in tables.rates(study):
            cells = [_tex(row.threat), *(_tex(_cell(at)) for at in row.cells)]
            if row.worst:
                parts += ["\\midrule"]
                cells = [f"\\textbf{{{cell}}}" for cell in cells]
            parts += [" & ".join(cells) + r" \\"]
        parts += ["\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    return "\n".join(parts)


def comma_separated(runs: Sequence[Run]) -> str:
    """A row for each model, threat, surface and metric of each study."""
    held = io.StringIO()
    columns = ("data", "model", "threat", "surface", "metric", "value", "low", "high", "n", "forwards", "backwards")
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow((*columns, "seconds"))
    for study in studies(runs):
        for one in study.outcomes:
            for metric, at in one.metrics().items():
                named = (study.plan.data, one.model, one.threat, one.surface, metric)
                numbers = (at.value, at.low, at.high, len(one.keys), one.forwards, one.backwards)
                writer.writerow((*map(printable, named), *numbers, round(one.seconds, 3)))
    return held.getvalue()


def figures(study: Study) -> dict[str, Figure]:
    """Every figure of a study, by the name of its file."""
    found: dict[str, Figure] = {"rates": rates(study)}
    found |= {f"curve-{_slug(chart.title)}": chart for chart in curves(study)}
    if (mean := severities(study)) is not None:
        found["corruptions-mean"] = mean
    if (energy := energies(study, median_snr(study))) is not None:
        found["energy"] = energy
    found |= {f"corruptions-{_slug(grid.title)}": grid for grid in heatmaps(study)}
    for section in study.sections:
        if (drawn := figure(section)) is not None:
            found[f"{section.kind}-{_slug(section.title)}"] = drawn
    return found


def rates(study: Study) -> Chart:
    """The table as a figure: a point with its interval for each model and threat."""
    specs = [row.threat for row in tables.split(tables.rates(study))[0]]
    series = []
    for number, name in enumerate(study.names):
        marks = [
            Mark(place, at.value, at.low, at.high, spec)
            for place, spec in enumerate(specs)
            if (at := study.rates.get((name, spec))) is not None
        ]
        series.append(Series(name, tuple(marks), number, number, joined=False))
    return Chart(_caption(study), "threat", study.metric, tuple(series), "named")


def write_figures(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Each figure as an SVG file of its own."""
    written = []
    several = studies(runs)
    for place, study in enumerate(several, 1):
        for name, one in figures(study).items():
            path = folder / (f"{place}-{name}.svg" if len(several) > 1 else f"{name}.svg")
            write_text(path, alone(one))
            written.append(path)
    return written


def _caption(study: Study) -> str:
    data = study.plan.data or "the data"
    return CAPTION.format(metric=study.metric, n=study.measured, data=data)


def _cell(at: Interval | None) -> str:
    return "" if at is None else f"{100 * at.value:.1f} [{100 * at.low:.1f}, {100 * at.high:.1f}]"


def _gain(pair: dict[str, float]) -> str:
    return f"{100 * pair['gain']:+.1f} [{100 * pair['gain_low']:+.1f}, {100 * pair['gain_high']:+.1f}]"


def _md_table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(map(_md, row))} |" for row in (head, ["---"] * len(head), *rows)]


def _md(text: str) -> str:
    r"""Text in which nothing is markup, save ** where the whole is bold.

    >>> _md("a|b <i> _c_"), _md("**worst attack**")
    ('a\\|b &lt;i&gt; \\_c\\_', '**worst attack**')
    """
    text = printable(text)
    if re.fullmatch(r"\*\*[a-z ]+\*\*|-+", text):
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#!~])", r"\\\1", text)


def _bold(text: str, worst: bool) -> str:
    return f"**{text}**" if worst else text


def _tex(text: str) -> str:
    r"""Text in which nothing is a command.

    >>> _tex("50 % of a_b")
    '50 \\% of a\\_b'
    """
    known = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
    known |= {">": r"\textgreater{}", **{mark: f"\\{mark}" for mark in "%$#_{}&"}}
    return "".join(known.get(letter, letter) for letter in printable(text))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:60] or "figure"
