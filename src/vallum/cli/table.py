"""A run as a table in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vallum.errors import printable
from vallum.evaluation.run import Run
from vallum.evaluation.summary import WORST, headlines


def print_run(run: Run, console: Console | None = None) -> None:
    """A row per threat, a column per model: the rate in per cent with its interval."""
    console = console or Console()
    table = Table(
        title=f"{len(run.plan.images)} images of {printable(run.plan.data or 'the data')}", title_justify="left"
    )
    table.add_column("threat")
    names = [model.name for model in run.plan.models]
    for name in names:
        table.add_column(Text(printable(name)), justify="right")
    shown = headlines(run.outcomes)
    for threat in dict.fromkeys(one.threat for one in shown):
        cells = []
        for name in names:
            one = next((o for o in shown if (o.model, o.threat) == (name, threat)), None)
            cells.append(_rate(next(iter(one.metrics().values()))) if one else "")
        table.add_row(Text(printable(threat)), *cells, style="bold" if threat == WORST else "", end_section=False)
    console.print(table)
    metric = "accuracy" if run.plan.task == "classify" else "mIoU"
    console.print(
        f"{metric} in per cent, with 95 % intervals; worst attack: per image, over all attacks and none", style="dim"
    )
    for one in run.outcomes:
        ignorant = next(m for m in run.plan.models if m.name == one.model).ignorant
        if one.surface in ignorant and any(t.spec == one.threat and t.kind == "attack" for t in run.plan.threats):
            said = f"{one.model} under {one.threat} from an attacker who ignores the defence: "
            console.print(printable(said) + _rate(next(iter(one.metrics().values()))), style="dim", markup=False)
    for pair in run.comparisons:
        if pair["threat"] == (WORST if any(o.threat == WORST for o in shown) else shown[-1].threat):
            said = f"{pair['first']} against {pair['second']}, {pair['threat']}: p = {pair['p']:.2g} ({pair['test']})"
            console.print(printable(said), style="dim", markup=False, highlight=False)
    if run.left_out:
        console.print(f"{len(run.left_out)} images could not be read and were left out", style="bold")


def _rate(interval) -> str:  # type: ignore[no-untyped-def]
    return f"{100 * interval.value:.1f}  [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
