"""A trade-off: one defence at several settings of one of its knobs, measured in one run on the same images."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from vallum.defences.base import Defence, knobs_of
from vallum.errors import UserError
from vallum.evaluation.evaluator import evaluate
from vallum.evaluation.run import Run
from vallum.evaluation.store import write_text
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
    if not settings:
        raise UserError(f"no setting of {knob} is given", remedy="as sigma=0:0.5:0.05")
    called = {setting: f"{name or type(defence).__name__}, {knob}={_short(setting)}" for setting in settings}
    run = evaluate({called[setting]: defence.tuned(**{knob: setting}) for setting in settings}, data, threats, **how)
    own = _own(defence, knob)
    made = section(run, knob, list(settings), [called[setting] for setting in settings], own, name)
    write_text(run.folder / "sections" / "tradeoff.json", json.dumps(made, indent=1))
    return run


def section(run: Run, knob: str, settings: list[Any], names: list[str], chosen: Any, title: str) -> dict[str, Any]:
    """The curves, for the report: a line per threat with a value per setting, and its interval."""
    found: dict[tuple[str, str], Outcome] = {(one.model, one.threat): one for one in headlines(run.outcomes)}
    lines = []
    for threat in dict.fromkeys(one.threat for one in headlines(run.outcomes)):
        metrics = [found[model, threat].metrics() if (model, threat) in found else {} for model in names]
        for metric in dict.fromkeys(metric for one in metrics for metric in one):
            # Where nothing is drawn, there is one answer, and it is most draws' and the worst draw's too.
            points = [one.get(metric) or next(iter(one.values()), None) for one in metrics]
            if any(point is None for point in points):
                continue
            label = threat if metric in ("accuracy", "mIoU") else f"{threat}, {metric}"
            whole = [point for point in points if point is not None]
            lines.append({
                "name": label,
                "values": [point.value for point in whole],
                "low": [point.low for point in whole],
                "high": [point.high for point in whole],
            })  # fmt: skip
    numbers = [float(one) for one in settings] if all(isinstance(one, int | float) for one in settings) else None
    return {
        "kind": "tradeoff", "title": f"{title}: {knob}" if title else knob, "knob": knob,
        "settings": numbers or list(range(len(settings))),
        "chosen": float(chosen) if numbers and isinstance(chosen, int | float) else None,
        "lines": lines,
        "note": f"Per image the worst over all surfaces; {WORST}: over all attacks and none.",
    }  # fmt: skip


def _own(defence: Defence, knob: str) -> Any:
    """How a knob of the stack stands at present."""
    part: Any = defence
    while knob not in part.knobs:
        part = part.model
    return getattr(part, knob)


def _short(setting: Any) -> str:
    return f"{setting:g}" if isinstance(setting, float) else str(setting)
