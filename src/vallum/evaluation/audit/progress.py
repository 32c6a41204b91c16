"""How far an audit is, in passes of the network, and how long the rest will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text
from torch import Tensor, nn

from vallum.bars import estimated
from vallum.evaluation.audit.check import Check
from vallum.evaluation.progress import EVERY

if TYPE_CHECKING:
    from vallum.evaluation.audit.subject import Subject


class Counting:
    """Counts the images that go through a network and its copies, and the gradients that come back."""

    def __init__(self) -> None:
        self.forwards = self.backwards = 0
        self.after: Any = None  # called after each pass

    def watch(self, network: nn.Module) -> None:
        network.register_forward_hook(self.passed)

    def passed(self, _: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        count = len(output) if isinstance(output, Tensor) else 0
        self.forwards += count
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(lambda gradient: self.came_back(count))
        if self.after is not None:
            self.after()

    def came_back(self, count: int) -> None:
        self.backwards += count

    def __deepcopy__(self, memo: Any) -> Counting:
        return self  # a copied network is counted here as well


class Progress:
    """A bar with an estimate in a terminal, elsewhere a line now and then."""

    def __init__(self, checks: Sequence[Check], subject: Subject, counting: Counting, *, shown: bool) -> None:
        self.counting, self.shown = counting, shown
        attack = len(subject) * (3 * subject.steps + 1) * sum(surface.weight for surface in subject.white)
        self.passes = {one.name: one.passes * attack for one in checks}
        self.finished = self.since = 0.0
        self.console = Console(file=sys.stderr)
        self.bar = estimated(self.console, shown)

    def __enter__(self) -> Progress:
        self.bar.start()
        self.task = self.bar.add_task("starting", total=sum(self.passes.values()))
        self.started = self.spoken = time.monotonic()
        self.counting.after = self.moved
        return self

    def __exit__(self, *_: object) -> None:
        self.counting.after = None
        self.bar.stop()

    @property
    def spent(self) -> float:
        return self.counting.forwards + 2.0 * self.counting.backwards

    def begins(self, one: Check) -> None:
        self.check, self.since = one, self.spent
        self.bar.update(self.task, description=one.name)

    def moved(self) -> None:
        self.now = self.finished + min(self.spent - self.since, self.passes[self.check.name])
        self.bar.update(self.task, completed=self.now)
        now = time.monotonic()
        if self.shown and not self.console.is_terminal and now - self.spoken > EVERY:
            self.spoken = now
            left = (now - self.started) * (sum(self.passes.values()) / max(self.now, 1.0) - 1)
            self.console.print(Text(f"{self.check.name}, about {left:.0f} s left"), soft_wrap=True)

    def done(self, one: Check) -> None:
        self.finished += self.passes[one.name]
        self.bar.update(self.task, completed=self.finished)
