"""A study for papers, pull requests and other programs: Markdown, LaTeX, CSV, and figures as SVG files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vallum.errors import printable
from vallum.evaluation.run import Run
from vallum.evaluation.sections import Rates
from vallum.evaluation.statistics import Interval
from vallum.evaluation.store import write_text
from vallum.report import tables
from vallum.report.figures import caption, figures
from vallum.report.headline import cautions, sentences
from vallum.report.kinds import table
from vallum.report.study import studies
from vallum.report.svg import alone

CSV_COLUMNS = (
    *("study", "run", "data", "data_fingerprint", "seed", "model", "threat", "surface", "metric"),
    *("value", "low", "high", "n", "forwards", "backwards", "seconds"),
)


def markdown(runs: Sequence[Run]) -> str:
    """Headline, rates and comparisons as GitHub draws them."""
    parts = []
    for study in studies(runs):
        parts += [f"- {_md(sentence)}" for sentence in sentences(study)]
        head = ["threat", *study.names]
        rows = [[_bold(row.name, row.worst), *map(_cell, row.cells)] for row in tables.rates(study)]
        parts += ["", _md(caption(study, exact=True)), "", *_md_table(head, rows)]
        for caution in cautions(study):
            parts += ["", _md(caution)]
        if pairs := study.comparisons:
            head = ["threat", "first", "second", "second minus first", "p", "p, corrected"]
            rows = [
                [*(one[k] for k in ("threat", "first", "second")), tables.gained(one), _p(one["p"]), _p(one["holm"])]
                for one in pairs
            ]
            parts += ["", f"{pairs[0]['test']}, corrected as Holm does", "", *_md_table(head, rows)]
        for section in study.sections:
            if isinstance(section, Rates):
                rows = [[name, *map(_numbers, cells)] for name, cells in table(section)]
                parts += ["", _md(section.title), "", *_md_table([section.row_is, *section.columns], rows)]
                parts += ["", _md(section.note)] if section.note else []
        commands = [command for run in study.runs if (command := run.environment.get("command"))]
        parts += ["", *(f"    {printable(str(command))}" for command in commands), ""]  # indented: code, whatever it is
    return "\n".join(parts)


def latex(runs: Sequence[Run]) -> str:
    """A table for each study, with booktabs; the worst attack is bold."""
    parts = ["% \\usepackage{booktabs}"]
    for study in studies(runs):
        said = ". ".join(filter(None, (caption(study, exact=True), " ".join(cautions(study)))))
        parts += ["\\begin{table}", "\\centering", f"\\caption{{{_tex(said)}}}"]
        parts += [f"\\begin{{tabular}}{{l{'r' * len(study.names)}}}", "\\toprule"]
        parts += [" & ".join(map(_tex, ["threat", *study.names])) + r" \\", "\\midrule"]
        for row in tables.rates(study):
            cells = [_tex(row.name), *(_tex(_cell(at)) for at in row.cells)]
            if row.worst:
                parts += ["\\midrule"]
                cells = [f"\\textbf{{{cell}}}" for cell in cells]
            parts += [" & ".join(cells) + r" \\"]
        parts += ["\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    return "\n".join(parts)


def comma_separated(runs: Sequence[Run]) -> str:
    """A row for each model, threat, surface and metric of each study: rows of one study are of the same images."""
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for place, study in enumerate(studies(runs), 1):
        data = study.plan.data, study.plan.data_fingerprint
        for one in study.outcomes:
            made = study.origin(one)
            folders = "; ".join(str(run.folder) for run in made)
            seeds = "; ".join(dict.fromkeys(str(run.plan.seed) for run in made))
            for metric, at in one.metrics().items():
                named = (folders, *data, seeds, one.model, one.threat, one.surface, metric)
                numbers = (at.value, at.low, at.high, len(one.keys), one.forwards, one.backwards)
                writer.writerow((place, *map(printable, named), *numbers, round(one.seconds, 3)))
    return held.getvalue()


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


def _cell(at: Interval | None) -> str:
    return "" if at is None else f"{100 * at.value:.1f} [{100 * at.low:.1f}, {100 * at.high:.1f}]"


def _numbers(cell: dict[str, Any] | None) -> str:
    return " ".join(filter(None, (cell["said"], cell["between"], cell["p"]))) if cell else ""


def _p(value: float) -> str:
    return f"{value:.2g}"


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
