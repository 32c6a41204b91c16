"""What a search for patches says while it runs: a bar in a terminal, a line at each look elsewhere."""

from __future__ import annotations

import sys

from rich.console import Console

from vallum.bars import estimated
from vallum.defences.defensive_patches.making import State


class Watching:
    """How far it is, how long it will take, the loss, and how often the class is told on images kept apart."""

    def __init__(self, title: str, steps: int, quiet: bool) -> None:
        self.title, self.steps, self.looks = title, steps, 0
        self.console = Console(file=sys.stderr, quiet=quiet)
        self.bar = estimated(self.console, shown=not quiet, says=True)

    def __enter__(self) -> Watching:
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=self.steps, said="")
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def begin(self, state: State) -> None:
        self.looks = len(state.history)
        self.bar.update(self.task, completed=state.step)
        if state.step:
            self._say(f"goes on after step {state.step} of {self.steps}")

    def step(self, state: State, loss: float) -> None:
        known = _told(state.history[-1]) if state.history else ""
        self.bar.update(self.task, completed=state.step, said=f"loss {loss:.3f}{known}")
        if len(state.history) > self.looks:
            self.looks = len(state.history)
            if not self.console.is_terminal:
                left = state.seconds / state.step * (self.steps - state.step)
                self._say(f"step {state.step} of {self.steps}: loss {loss:.3f}{known}, about {left:.0f} s left")

    def _say(self, text: str) -> None:
        self.console.print(f"{self.title}: {text}", highlight=False, markup=False, soft_wrap=True)


def _told(row: dict[str, float]) -> str:
    rates = [value for name, value in row.items() if name.startswith("right ")]
    least = f", least {min(rates):.1%}" if len(rates) > 1 else ""
    return f", class told {sum(rates) / len(rates):.1%}{least}"
