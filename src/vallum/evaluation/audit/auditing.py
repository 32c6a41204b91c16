"""Doubting the evaluation: would the attack have found what there is to find?"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vallum.data import load_data
from vallum.defences.base import Defence, ways_into
from vallum.disk import write_whole
from vallum.errors import UserError
from vallum.evaluation import sections
from vallum.evaluation.audit.behaviour import asked_twice, differ
from vallum.evaluation.audit.check import CHECKS, Check, Verdict, worst
from vallum.evaluation.audit.progress import Counting, Progress
from vallum.evaluation.audit.subject import Subject, copied
from vallum.evaluation.evaluator import choose
from vallum.images import check_images
from vallum.models import check_model, load_model
from vallum.models.load import available
from vallum.specs import write_value
from vallum.threats.norms import norm_named

IMAGES = 64  # asked for where nobody says how many; a defence with many surfaces is given fewer


@dataclass(frozen=True)
class Audit:
    """Whether what attacks say of a model can be believed."""

    title: str
    checks: tuple[sections.Check, ...]
    images: int  # that were asked about
    right: int  # of them that the model answers right, and all the rest was done with
    forwards: int  # passes of the bare network, in images
    backwards: int
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of all checks."""
        return worst("passed", *(one.verdict for one in self.checks))

    def named(self, verdict: Verdict) -> list[str]:
        """The checks that ended so."""
        return [one.name for one in self.checks if one.verdict == verdict]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write audit.json into a folder; where that is a run's, its report shows the audit too."""
        path = Path(folder) / "audit.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"kind": "audit", "verdict": self.verdict, **asdict(self)}, indent=1)
        write_whole(path, lambda beside: beside.write_text(text + "\n", "utf-8"))
        asked = f"{self.right} of {self.images} images, those that the model answers right."
        sections.write(folder, sections.Audit(self.title, self.checks, asked))
        return path


def audit(
    model: str | nn.Module,
    data: Any,
    *,
    eps: float = 8 / 255,
    norm: str = "inf",
    steps: int = 20,
    n: int | None = None,
    seed: int = 0,
    surrogate: str | nn.Module | None = None,
    checks: Sequence[str] | None = None,
    name: str = "",
    device: str = "auto",
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Audit:
    """Doubt what an attack says of a model: each check does something of which the outcome is known if all is well.

    The attack in doubt is PGD with this radius and so many steps, on each surface that a defence declares, on the
    images of `n` that the model answers right. `surrogate` is another model for the same classes, from which attacks
    are carried over. `checks` names those that are wanted, of `vallum.evaluation.audit.CHECKS`. The model is copied,
    and the caller's is not touched. `name` is what it is called in the title; `out` is a folder for audit.json.

    >>> from vallum.models import load_model
    >>> report = audit("builtin:signs_resnet", "builtin:signs", n=8, checks=["hidden randomness"], progress=False)
    >>> report.verdict, report.checks[0].name
    ('passed', 'hidden randomness')
    """
    source, wanted = load_data(data), [CHECKS[name] for name in checks] if checks is not None else list(CHECKS.values())
    for what, number in (("steps", steps), ("n", n or 1)):
        if number < 1:
            raise UserError(f"{what}={number}", "at least 1 is needed")
    if not 0 < eps < float("inf"):
        raise UserError(f"eps={eps}", "a radius is positive and finite", "write eps=8/255")
    norm = norm_named(norm).name
    where = str(available(device)) if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    own = copied(load_model(model)).to(where)
    own.settle_task(source.task)
    title = name or own.spec or type(getattr(own, "network", own)).__name__
    started, counting = time.time(), Counting()
    other = None if surrogate is None else load_model(surrogate).to(where)
    if other is not None:
        other.settle_task(source.task)

    chosen = choose(len(source), min(n or IMAGES, len(source)), seed)
    batch = source.batch(chosen).to(where)
    if not len(batch):
        raise UserError("none of the images could be read", remedy="check the data set")
    check_images(batch.images, f"the images of {source.spec or 'the data'}")
    pristine = copied(own)
    looked_at = copied(own)
    notes = check_model(looked_at, batch.images, batch.labels, source.classes, ways_into(looked_at))
    for one in (own, pristine):
        one.classes, one.differentiable = looked_at.classes, looked_at.differentiable
        counting.watch(one.bare if isinstance(one, Defence) else one)
    subject = Subject(own, pristine, batch, eps, norm, steps, seed, other)
    first, second, _ = asked_twice(subject.clone(), batch.images)
    subject.random = bool(differ(first, second)) or (isinstance(own, Defence) and own.draws_at_random)
    right = subject.judge(batch.images).accuracy > 0.5
    if not bool(right.any()):
        raise UserError(
            f"the model is wrong on all of {len(batch)} images",
            "what is wrong already cannot be attacked",
            "check the classes, mean and std, or take more images",
        )
    subject = subject.only(right, n is None)
    with Progress(wanted, subject, counting, shown=progress) as bar:
        found = [finding for one in wanted if (finding := _look(one, subject, bar)) is not None]
    report = Audit(
        f"{title}, eps {write_value(eps)} in norm {norm}, {steps} steps",
        tuple(found),
        len(batch),
        len(subject),
        counting.forwards,
        counting.backwards,
        round(time.time() - started, 1),
        tuple(notes),
    )
    if out is not None:
        report.save(out)
    return report


def _look(one: Check, subject: Subject, bar: Progress) -> sections.Check | None:
    bar.begins(one)
    seen = one.look(subject)
    bar.done(one)
    if seen is None:
        return None
    return sections.Check(one.name, seen.done, seen.seen, seen.verdict, "" if seen.verdict == "passed" else seen.remedy)
