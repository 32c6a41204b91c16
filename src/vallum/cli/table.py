"""A run as a table in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vallum.errors import printable
from vallum.evaluation.run import Run
from vallum.evaluation.summary import WORST, Outcome, headlines, ignorant


def print_run(run: Run, console: Console | None = None) -> None:
    """A row per threat, a column per model: the rate in per cent with its interval; beneath them what to know of it."""
    console = console or Console()
    names = [model.name for model in run.plan.models]
    shown = headlines(run.outcomes)
    table = Table(title=_text(f"{run.measured} images of {run.plan.data or 'the data'}"), title_justify="left")
    table.add_column("threat", overflow="fold")
    for name in names:
        table.add_column(_text(name), justify="right", overflow="fold")
    gap = "  " if len(names) <= 2 else "\n"  # more of them side by side are too wide for most terminals
    for threat in dict.fromkeys(one.threat for one in shown):
        found = {one.model: one for one in shown if one.threat == threat}
        cells = [Text(_rate(found[name], gap)) if name in found else Text("") for name in names]
        table.add_row(_text(threat), *cells, style="bold" if threat == WORST else "")
    console.print(table)
    metric = "accuracy" if run.plan.task == "classify" else "mIoU"
    console.print(_text(f"{metric} in per cent, with 95 % intervals", "dim"))
    if any(one.threat == WORST for one in shown):
        console.print(_text(f"{WORST}: per image, over all attacks and none", "dim"))
    for one, union in ignorant(run.plan.models, run.plan.kinds, run.outcomes):
        said = f"{one.model} under {one.threat}: {_rate(union)}; from an attacker who ignores the defence {_rate(one)}"
        console.print(_text(said, "dim"))
    for pair in run.comparisons:
        if pair["threat"] == (WORST if any(o.threat == WORST for o in shown) else shown[-1].threat):
            said = f"{pair['first']} against {pair['second']}, {pair['threat']}: p = {pair['p']:.2g} ({pair['test']})"
            console.print(_text(said, "dim"))
    for note in run.environment.get("notes", []):
        console.print(_text(note))
    if run.left_out:
        console.print(_text(f"{len(run.left_out)} left out, as they could not be read: report.html names them", "bold"))
    if run.unfinished:
        console.print(_text(f"{run.unfinished} cells are not finished: the same command goes on with them", "bold"))


def _text(said: str, style: str = "") -> Text:
    """What came from outside, as it is: no markup in it, no emoji, nothing that steers the terminal."""
    return Text(printable(said), style)


def _rate(one: Outcome, gap: str = "  ") -> str:
    interval = next(iter(one.metrics().values()))
    return f"{100 * interval.value:.1f}{gap}[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
