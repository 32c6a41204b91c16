"""What a training says while it runs: a bar in a terminal, a line per epoch elsewhere, a table on disk always."""

from __future__ import annotations

import csv
import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from vallum.bars import estimated
from vallum.disk import write_whole

Row = dict[str, float]  # one epoch; its columns are the same in every epoch of a run
WATCHED = ("validation_accuracy", "robust_accuracy")
HIDDEN = ("epoch", "step", "lr")  # from the line that is printed per epoch


class Log:
    """The history of a run, for people and for programs; every process but the first keeps quiet."""

    def __init__(self, folder: Path, title: str, epochs: int, steps: int, *, speaks: bool, quiet: bool) -> None:
        self.folder, self.title, self.epochs, self.steps, self.speaks = folder, title, epochs, steps, speaks
        self.console = Console(file=sys.stderr, quiet=quiet or not speaks)
        self.bar = estimated(self.console, says=True, seconds=120.0)
        self.board: Any = None
        self.known = ""  # the accuracies after the last epoch

    def __enter__(self) -> Log:
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=self.epochs * self.steps, said="")
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        if self.board is not None:
            self.board.finalize("")

    def begin(self, step: int) -> None:
        """Where the run stands before its first step."""
        self.bar.update(self.task, completed=step)
        if step:
            line = f"{self.title}: goes on after step {step} of {self.epochs * self.steps}"
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        if self.speaks and importlib.util.find_spec("tensorboard"):
            from lightning_fabric.loggers import TensorBoardLogger

            # What an earlier process wrote after its last checkpoint is written again, and the first is forgotten.
            self.board = TensorBoardLogger(self.folder, name="", version="tensorboard", purge_step=step or None)

    def warn(self, doubt: str) -> None:
        self.console.print(f"{self.title}: mind: {doubt}", highlight=False, markup=False, soft_wrap=True)

    def step(self, step: int, loss: float, lr: float) -> None:
        self.bar.update(self.task, completed=step, said=f"loss {loss:.4f}{self.known}")
        if self.board is not None:
            self.board.log_metrics({"loss": loss, "lr": lr}, step=step)

    def table(self, history: list[Row]) -> None:
        """Written anew each time, so that it never holds a line twice or half a line."""
        if not self.speaks:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(history[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_whole(self.folder / "log.csv", lambda path: path.write_text(text.getvalue(), encoding="utf-8"))

    def epoch(self, history: list[Row]) -> None:
        self.table(history)
        row = history[-1]
        accuracies = {name.partition("_")[0]: value for name, value in row.items() if name in WATCHED}
        self.known = "".join(f", {name} {value:.1%}" for name, value in accuracies.items())
        if self.board is not None:
            shown = {f"epoch/{name}": value for name, value in row.items() if name not in ("epoch", "step")}
            self.board.log_metrics(shown, step=int(row["step"]))
        said = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in row.items() if name not in HIDDEN)
        line = f"{self.title}: epoch {int(row['epoch'])} of {self.epochs}: {said}"
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
