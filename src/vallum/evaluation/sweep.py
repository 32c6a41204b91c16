"""A trade-off: one defence at several settings of one of its knobs, measured in one run on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vallum.defences.base import Defence, knobs_of
from vallum.errors import UserError
from vallum.evaluation import sections
from vallum.evaluation.evaluator import evaluate
from vallum.evaluation.run import Run
from vallum.evaluation.summary import WORST, Outcome, headlines
from vallum.models import load_model
from vallum.models.request import guess_value
from vallum.specs import read_value


def read_sweep(text: str) -> tuple[str, list[Any]]:
    """A knob and its settings: from low to high in steps, or one by one.

    >>> read_sweep("sigma=0:0.2:0.1"), read_sweep("draws=1,4,16")
    (('sigma', [0.0, 0.1, 0.2]), ('draws', [1, 4, 16]))
    """
    knob, equals, values = text.partition("=")
    if not equals or not knob or not values:
        raise UserError(f"{text!r} is no sweep", "a knob and its settings", "as sigma=0:0.5:0.05, or draws=1,4,16")
    if ":" not in values:
        return knob, [read_value(one, float, knob) if "/" in one else guess_value(one) for one in values.split(",")]
    try:
        low, high, step = (read_value(part, float, f"{text!r}") for part in values.split(":"))
    except ValueError:
        raise UserError(f"{values!r} is no range", "low:high:step", "as sigma=0:0.5:0.05") from None
    if step <= 0 or high < low:
        raise UserError(f"{values!r} is an empty range", "low:high:step, with a positive step")
    count = math.floor((high - low) / step + 1e-9) + 1
    return knob, [float(f"{low + place * step:.10g}") for place in range(count)]  # no 0.30000000000000004


def sweep(
    model: Any, data: Any, threats: Any, knob: str, settings: Sequence[Any], *, name: str = "", **how: Any
) -> Run:
    """Evaluate a defence at each setting of a knob; the curve is put beside the rows, for the report.

    Further arguments are those of `evaluate`. Each setting is a model of the run of its own, called `NAME, sigma=0.1`.
    """
    defence = load_model(model)
    known = knobs_of(defence)
    if not isinstance(defence, Defence) or knob not in known:
        listed = ", ".join(f"{one} ({what})" for one, what in known.items()) or "it has none"
        raise UserError(f"{name or type(defence).__name__} has no knob {knob!r}", f"its knobs: {listed}")
    settings = list(dict.fromkeys(settings))
    if not settings:
        raise UserError(f"no setting of {knob} is given", remedy="as sigma=0:0.5:0.05")
    called = {setting: f"{name or type(defence).__name__}, {knob}={_short(setting)}" for setting in settings}
    run = evaluate({called[setting]: defence.tuned(**{knob: setting}) for setting in settings}, data, threats, **how)
    sections.write(run.folder, tradeoff(run, knob, list(settings), list(called.values()), _own(defence, knob), name))
    return run


def tradeoff(run: Run, knob: str, settings: list[Any], names: list[str], chosen: Any, title: str) -> sections.Tradeoff:
    """The curves, for the report: a line per threat with a value per setting, and its interval."""
    shown = headlines(run.outcomes)
    found: dict[tuple[str, str], Outcome] = {(one.model, one.threat): one for one in shown}
    lines = []
    attacked = any(one.threat == WORST for one in shown)
    for threat in dict.fromkeys(one.threat for one in shown):
        metrics = [found[name, threat].metrics() for name in names if (name, threat) in found]
        if len(metrics) < len(names):
            continue  # only beneath the defence
        for metric in dict.fromkeys(metric for one in metrics for metric in one):
            mean = metric in ("accuracy", "mIoU")
            if not mean and attacked and threat != WORST:
                continue  # how draws differ is shown for the headline; for each threat it is in the table
            # Where nothing is drawn there is one answer, which is that of most draws and of the worst one too.
            points = [one.get(metric) or next(iter(one.values())) for one in metrics]
            label = threat if mean else f"{threat}, {metric}"
            values, low, high = (tuple(getattr(point, part) for point in points) for part in ("value", "low", "high"))
            lines.append(sections.Line(label, values, low, high))
    numbers = all(isinstance(one, int | float) for one in settings)
    return sections.Tradeoff(
        f"{title}: {knob}" if title else knob,
        knob,
        tuple(float(one) for one in settings) if numbers else tuple(float(place) for place in range(len(settings))),
        tuple(lines),
        float(chosen) if numbers and isinstance(chosen, int | float) else None,
        ("" if numbers else f"The settings: {', '.join(map(str, settings))}. ")
        + f"Per image the worst over all surfaces; {WORST}: over all attacks and none.",
    )


def _own(defence: Defence, knob: str) -> Any:
    """How a knob of the stack stands at present."""
    part: Any = defence
    while knob not in part.knobs:
        part = part.model
    return getattr(part, knob)


def _short(setting: Any) -> str:
    return f"{setting:g}" if isinstance(setting, float) else str(setting)
