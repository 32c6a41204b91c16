"""Runs as one self-contained HTML page; everything that came from outside is escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from vallum import __version__
from vallum.errors import UserError, printable
from vallum.evaluation.run import LEFT_OUT, Run
from vallum.evaluation.sections import Rates, Section, Tradeoff, Universal
from vallum.evaluation.store import write_text
from vallum.evaluation.summary import WORST, ignorant
from vallum.report import tables
from vallum.report.curves import curves, energies, median_snr, severities
from vallum.report.figure import Chart, narrow, said
from vallum.report.figures import gains
from vallum.report.gallery import MEGABYTES, gallery
from vallum.report.headline import cautions, headlines, sentences
from vallum.report.heatmap import heatmaps
from vallum.report.kinds import figure, slider, table, universal
from vallum.report.study import Study, studies
from vallum.report.surfaces import surfaces
from vallum.report.svg import draw, swatch
from vallum.report.svg_parts import short


def write_report(run: Run | Sequence[Run], out: Path | None = None, *, megabytes: float = MEGABYTES) -> Path:
    """Write the page, by default as report.html in the run's folder, and say where it is.

    Several runs make one comparison. `megabytes` bounds the pictures of each gallery.
    """
    runs = [run] if isinstance(run, Run) else list(run)
    page = render(runs, megabytes)
    if out is None and len(runs) == 1:
        return runs[0].store.write_text("report.html", page)
    out = out or Path("comparison.html")
    if out.is_dir():
        raise UserError(f"{out} is a folder", "the report is one file", f"write {out / 'report.html'}")
    write_text(out, page)
    return out


def render(runs: Sequence[Run], megabytes: float = MEGABYTES) -> str:
    """The page as text."""
    templates = Environment(
        loader=PackageLoader("vallum.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "percent": lambda value: f"{100 * value:.1f}",
        "number": lambda value: f"{value:.4g}",
        "length_of": short,
        "plain": printable,
        "name": _name,
        "draw": lambda one: Markup(draw(one)),
        "swatch": lambda one: Markup(swatch(one)),
        "said": said,
        "data": _data,
        "narrow": narrow,
    }
    assert templates.loader is not None
    script = templates.loader.get_source(templates, "report.js")[0]
    shown = [_shown(study, megabytes) for study in studies(runs)]
    return templates.get_template("report.html").render(
        studies=shown,
        names=[name for one in shown for name in one["names"]],
        worst=WORST,
        left_out_key=LEFT_OUT,
        version=__version__,
        script=Markup(script),
        # The browser runs this script and no other, whatever a name may hold.
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


def _shown(study: Study, megabytes: float) -> dict[str, Any]:
    """All that the templates show of a study."""
    strengths = [*curves(study), *filter(None, [severities(study)])]
    main, many = tables.split(tables.rates(study))
    shown = {
        "plan": study.plan,
        "runs": study.runs,
        "names": study.names,
        "metric": study.metric,
        "measured": study.measured,
        "seeds": study.seeds,
        "cautions": cautions(study),
        "headlines": headlines(study),
        "sentences": sentences(study),
        "rows": main,
        "many": many,
        "surfaces": surfaces(study),
        "ignorant": [
            {"model": one.model, "threat": one.threat, "ignorant": study.rate(one), "union": study.rate(union)}
            for one, union in ignorant(study.models, study.kinds, study.outcomes)
        ],
        "curves": [replace(one, wide=True) for one in strengths] if len(strengths) == 1 else strengths,
        "energies": energies(study, median_snr(study)),
        "heatmaps": heatmaps(study),
        "gallery": gallery(study, megabytes),
        "compared": study.comparisons,
        "gains": [dots for dots in gains(study)[:3] if len(dots.rows) <= 30],
        "extras": [_extra(section) for section in study.sections],
        "costs": tables.costs(study),
        "at_test_time": tables.at_test_time(study),
        "draws": tables.draws(study),
        "left_out": {name: why for run in study.runs for name, why in run.left_out.items()},
    }
    return {**shown, "contents": _contents(shown)}


def _contents(shown: dict[str, Any]) -> list[tuple[str, str]]:
    """The links to the sections that there are."""
    wanted = [
        ("table", "numbers", True),
        ("surfaces", "surfaces", shown["surfaces"]),
        ("draws", "draws", shown["draws"]),
        ("curves", "strengths", shown["curves"]),
        ("energy", "energy", shown["energies"]),
        ("corruptions", "corruptions", shown["heatmaps"]),
        ("gallery", "gallery", shown["gallery"]),
        ("comparisons", "comparisons", shown["compared"]),
        *((f"extra{place}", one["section"].kind, True) for place, one in enumerate(shown["extras"], 1)),
        ("cost", "cost", shown["costs"]),
        ("reproduce", "reproduce", True),
    ]
    first: dict[str, str] = {}
    for anchor, name, there in wanted:
        if there:
            first.setdefault(name, anchor)  # of several sections of a kind the first
    return [(anchor, name) for name, anchor in first.items()]


def _extra(section: Section) -> dict[str, Any]:
    drawn = figure(section)
    shown: dict[str, Any] = {"section": section, "figure": drawn, "slider": None}
    if isinstance(section, Tradeoff) and isinstance(drawn, Chart):
        shown["slider"] = slider(section, drawn)
    if isinstance(section, Rates):
        shown["rows"] = table(section)
    return {**shown, **universal(section)} if isinstance(section, Universal) else shown


def _name(text: str) -> Markup:
    """A name that may be broken over lines where its parts end."""
    return Markup(re.sub("([:,+])", r"\1<wbr>", str(escape(printable(text)))))


def _data(value: Any) -> Markup:
    """JSON inside a page: nothing in it can end its element or begin another."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    for mark in "<>&'":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)
