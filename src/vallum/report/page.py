"""A run as one self-contained HTML page; everything that came from outside is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vallum.errors import UserError, printable
from vallum.evaluation.run import LEFT_OUT, Run
from vallum.evaluation.store import write_text
from vallum.evaluation.summary import WORST, Outcome, headlines, ignorant


def write_report(run: Run, out: Path | None = None) -> Path:
    """Write the page, by default as report.html in the run's folder, and say where it is."""
    page = render(run)
    if out is None:
        return run.store.write_text("report.html", page)
    if out.is_dir():
        raise UserError(f"{out} is a folder", "the report is one file", f"write {out / 'report.html'}")
    write_text(out, page)
    return out


def render(run: Run) -> str:
    """The page as text."""
    templates = Environment(
        loader=PackageLoader("vallum.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters |= {"percent": lambda value: f"{100 * value:.1f}", "plain": printable}
    shown = headlines(run.outcomes)
    threats = list(dict.fromkeys(one.threat for one in shown))
    names = [model.name for model in run.plan.models]
    return templates.get_template("report.html").render(
        plan=run.plan,
        names=names,
        rows=[(threat, [_bar(shown, name, threat) for name in names]) for threat in threats],
        worst=WORST,
        headline=_headline(shown, names),
        ignorant=_ignorant(run),
        comparisons=run.comparisons,
        costs=[row for row in run.summary if row["metric"] in ("accuracy", "mIoU") and row["threat"] != WORST],
        measured=run.measured,
        unfinished=run.unfinished,
        left_out=run.left_out,
        environment=run.environment,
        facts={name: value for name, value in run.environment.items() if name not in ("command", "notes", LEFT_OUT)},
        metric="accuracy" if run.plan.task == "classify" else "mIoU",
    )


def _bar(shown: list[Outcome], name: str, threat: str) -> dict[str, Any] | None:
    one = next((o for o in shown if (o.model, o.threat) == (name, threat)), None)
    return None if one is None else {**vars(next(iter(one.metrics().values()))), "n": len(one.keys)}


def _headline(shown: list[Outcome], names: list[str]) -> list[str]:
    """One sentence for each model: clean, and what the worst attack leaves."""
    said = []
    for name in names:
        found = {o.threat: _value(o) for o in shown if o.model == name}
        clean = found.get("clean")
        if clean is None:
            continue
        if WORST in found:
            worst = found[WORST]
            said.append(f"{name}: {100 * clean:.1f} % clean; {100 * worst:.1f} % are left under the worst attack.")
        else:
            said.append(
                f"{name}: {100 * clean:.1f} % clean; it was not attacked, so nothing is known of its worst case."
            )
    return said


def _ignorant(run: Run) -> list[dict[str, Any]]:
    """What an attacker who does not know of the defence reaches, beside what one who does reaches."""
    return [
        {"model": one.model, "threat": one.threat, "ignorant": _value(one), "union": _value(union)}
        for one, union in ignorant(run.plan, run.outcomes)
    ]


def _value(one: Outcome) -> float:
    return next(iter(one.metrics().values())).value
