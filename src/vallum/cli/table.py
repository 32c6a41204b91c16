"""A run as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from vallum.errors import printable
from vallum.evaluation.run import Run
from vallum.evaluation.sections import Rates
from vallum.evaluation.statistics import Interval
from vallum.evaluation.summary import WORST, Outcome, headlines, ignorant
from vallum.report.headline import cautions
from vallum.report.study import Study, studies
from vallum.report.tables import OWN, gained


def print_run(run: Run, console: Console | None = None) -> None:
    """A row per threat, a column per model: the rate in per cent with its interval; beneath them what to know of it."""
    console = console or Console()
    names = [model.name for model in run.plan.models]
    shown = headlines(run.outcomes)
    [study] = studies([run])
    worst = OWN if study.uneven else WORST
    table = Table(title=_text(f"{run.measured} images of {run.plan.data or 'the data'}"), title_justify="left")
    table.add_column("threat", overflow="fold")
    for name in names:
        table.add_column(_text(name), justify="right", overflow="fold")
    gap = "  " if len(names) <= 2 else "\n"  # more of them side by side are too wide for most terminals
    for threat in dict.fromkeys(one.threat for one in shown):
        found = {one.model: one for one in shown if one.threat == threat}
        cells = [Text(_rate(found[name], gap)) if name in found else Text("") for name in names]
        table.add_row(_text(worst if threat == WORST else threat), *cells, style="bold" if threat == WORST else "")
    console.print(table)
    metric = "accuracy" if run.plan.task == "classify" else "mIoU"
    console.print(_text(f"{metric} in per cent, with 95 % intervals", "dim"))
    attacked = any(one.threat == WORST for one in shown)
    if attacked:
        console.print(_text(f"{worst}: per image, over all attacks and none", "dim"))
    for one, union in ignorant(run.plan.models, run.plan.kinds, run.outcomes):
        said = f"{one.model} under {one.threat}: {_rate(union)}; from an attacker who ignores the defence {_rate(one)}"
        console.print(_text(said, "dim"))
    for one in shown:
        if one.worst is not None and (one.threat == WORST or not attacked):
            parts = ", ".join(f"{name} {100 * at.value:.1f}" for name, at in one.metrics().items())
            draws = next(model.draws for model in run.plan.models if model.name == one.model)
            console.print(_text(f"{one.model}, asked {draws} times about each image; {one.threat}: {parts}", "dim"))
    _print_pairs(study, WORST if attacked or not shown else shown[-1].threat, console)
    for note in run.environment.get("notes", []):
        console.print(_text(note))
    if run.left_out:
        console.print(_text(f"{len(run.left_out)} left out, as they could not be read: report.html names them", "bold"))
    for caution in cautions(study):
        console.print(_text(caution, "bold"))
    if run.unfinished:
        console.print(_text("The same command goes on with what is not finished", "bold"))


def _print_pairs(study: Study, threat: str, console: Console) -> None:
    """How much more each model keeps than each other, and whether that is chance: as the report says it."""
    pairs = [pair for pair in study.comparisons if pair["threat"] == threat]
    for pair in pairs:
        said = f"{pair['second']} minus {pair['first']}, {threat}: {gained(pair)} points, p = {pair['holm']:.2g}"
        console.print(_text(said, "dim"))
    if pairs:
        corrected = f", corrected as Holm does for all {pairs[0]['of']} comparisons" if pairs[0]["of"] > 1 else ""
        console.print(_text(f"p: {pairs[0]['test']}{corrected}", "dim"))


def print_rates(tables: Sequence[Rates], console: Console | None = None) -> None:
    """Tables that stand on their side, for they have more columns than a terminal: a column for each of their rows."""
    console = console or Console()
    for one in tables:
        table = Table(title=_text(one.title), title_justify="left")
        table.add_column("", overflow="fold")
        for name in one.rows:
            table.add_column(_text(name), justify="right", overflow="fold")
        for place, column in enumerate(one.columns):
            cells = []
            for row in range(len(one.rows)):
                value, low, high = (numbers[row][place] for numbers in (one.values, one.low, one.high))
                if value is None or low is None or high is None:
                    cells.append(_text(""))
                else:
                    cells.append(Text(in_per_cent(Interval(value, low, high), "\n")))
            table.add_row(_text(column), *cells, style="bold" if place == 0 else "")
        console.print(table)


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], console: Console | None = None) -> None:
    """An answer to a query as a table, or a row at a time where that is too wide: nothing of it is cut off.

    Columns in which no row has a value make a table wide for nothing: they are named beneath it.
    """
    console = console or Console()
    empty = [place for place in range(len(columns)) if rows and all(row[place] is None for row in rows)]
    shown = [place for place in range(len(columns)) if place not in empty] if len(columns) > 1 else [0]
    names, texts = [columns[place] for place in shown], [[_value(row[place]) for place in shown] for row in rows]
    table = Table()
    for name in names:
        table.add_column(_text(name), overflow="fold")
    for row in texts:
        table.add_row(*map(_text, row))
    unbounded = console.options.update(max_width=1_000_000)
    if not rows:
        console.print(_text(f"no row is like that; the columns: {', '.join(names)}"))
    elif Measurement.get(console, unbounded, table).maximum <= console.width:
        console.print(table)
    else:
        for number, row in enumerate(texts, 1):
            record = Table.grid(padding=(0, 2))
            record.add_column(style="dim")
            record.add_column(overflow="fold")
            for name, text in zip(names, row, strict=True):
                record.add_row(_text(f"  {name}"), _text(text))
            console.print(_text(f"row {number}", "bold"), record)
    if empty and len(shown) < len(columns):
        console.print(_text(f"without a value in these rows: {', '.join(columns[place] for place in empty)}", "dim"))


def first_rows(run: Run) -> str:
    """A query to begin with: what became of an image under each threat, in columns that fit a terminal."""
    answer = "label, prediction" if run.plan.task == "classify" else "accuracy"
    who = "model, " if len(run.plan.models) > 1 else ""
    return f"SELECT key, {who}threat, {answer}, linf FROM rows ORDER BY ALL LIMIT 5"


def _value(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


if TYPE_CHECKING:
    from vallum.evaluation.audit import Audit

COLOURS = {"passed": "green", "doubtful": "yellow", "failed": "bold red"}


def print_audit(audit: Audit, console: Console | None = None) -> None:
    """A row per check: what was done and seen, the verdict, and beneath it what to do where it did not pass."""
    console = console or Console()
    table = Table(title=_text(f"{audit.title}, {audit.right} of {audit.images} images answered right"),
                  title_justify="left", show_lines=True)  # fmt: skip
    for column in ("check", "what was done", "what was seen"):
        table.add_column(column, overflow="fold")
    table.add_column("verdict", no_wrap=True)
    for one in audit.checks:
        seen = _text(one.seen)
        if one.remedy:
            seen.append(f"\nWhat to do: {printable(one.remedy)}", "bold")
        table.add_row(_text(one.name), _text(one.done), seen, _text(one.verdict, COLOURS[one.verdict]))
    console.print(table)
    for note in audit.notes:
        console.print(_text(note))
    counts = {verdict: len(audit.named(verdict)) for verdict in ("passed", "doubtful", "failed")}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    passes = f"{audit.forwards:,} images forwards and {audit.backwards:,} back in {audit.seconds:.0f} s"
    console.print(_text(f"{said}; {passes}"))


def print_text(said: str, console: Console | None = None) -> None:
    """A line of its own."""
    (console or Console()).print(_text(said))


def _text(said: str, style: str = "") -> Text:
    """What came from outside, as it is: no markup in it, no emoji, nothing that steers the terminal."""
    return Text(printable(said), style)


def _rate(one: Outcome, gap: str = "  ") -> str:
    return in_per_cent(next(iter(one.metrics().values())), gap)


def in_per_cent(interval: Interval, gap: str = " ") -> str:
    """A rate with its interval."""
    return f"{100 * interval.value:.1f}{gap}[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
