"""The loop: what one process does from the first step of a training, or from its last checkpoint, to the end."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vallum.data.data import Data
from vallum.defences.recipe import Context, Recipe
from vallum.errors import UserError
from vallum.images import Draws
from vallum.models.checks import check_model
from vallum.models.model import Model
from vallum.threats.universal import Fitted
from vallum.torchvision_shim import ensure_torchvision
from vallum.training.average import Average
from vallum.training.checkpoint import read_checkpoint, write_checkpoint
from vallum.training.loader import Cache, Loader, Portion
from vallum.training.log import Log, Row
from vallum.training.optimize import make_optimizer
from vallum.training.processes import copy_from_first, reduce_gradients, sum_of
from vallum.training.schedule import share
from vallum.training.settings import Settings
from vallum.training.validate import validate

LEAST = 4  # validation images that are enough for an attack which is fitted on half of them


@dataclass
class Job:
    """What is to be trained, on what and how; the same on every process."""

    model: Model
    data: Data
    indices: np.ndarray  # of the images to train on
    validation: Data
    held_out: np.ndarray  # of the validation images, possibly none
    recipe: Recipe
    settings: Settings
    folder: Path
    plan: dict[str, Any]  # what a checkpoint must agree with
    quiet: bool

    def __reduce__(self) -> tuple[Any, ...]:
        # As bytes in bytes: a network of timm's can be unpickled only where torchvision can be imported.
        return _unpacked, (bytes(ForkingPickler.dumps(vars(self))),)


def _unpacked(packed: bytes) -> Job:
    ensure_torchvision()
    return Job(**pickle.loads(packed))


class Worker:
    """One process of a training."""

    def __init__(self, fabric: Any, job: Job) -> None:
        self.fabric, self.job, self.settings = fabric, job, job.settings
        self.cache = Cache(job.data, job.settings.cache * 1e9)
        self.watched = self.cache if job.validation is job.data else Cache(job.validation, job.settings.cache * 1e9)
        self.loader = Loader(self.cache, job.indices, job.settings, fabric.global_rank, fabric.world_size)
        self.model = job.model.to(fabric.device)
        first = self.cache.batch(job.indices[:8].tolist()).to(fabric.device)
        if not len(first):
            raise UserError("none of the first images can be read", remedy="look at why, with on_error='stop'")
        check_model(self.model.eval(), first.images, first.labels, job.data.classes)
        _seed(fabric.device, job.settings.seed)
        self.companion = job.recipe.companion(self.model, first.images).to(fabric.device)
        self.trained = (self.model, self.companion)
        copy_from_first(fabric, self.trained)
        lay_out(self.model, torch.channels_last)  # convolutions are faster with it
        self.optimizer = make_optimizer((job.recipe.learns(self.model), self.companion), job.settings, fabric.device)
        decay, kept = job.settings.average, job.recipe.keep(self.companion)
        self.average = Average(self.model.state_dict(), decay) if decay else None
        self.average_kept = Average(kept, decay) if decay and kept else None  # of what is saved beside the model
        self.epoch, self.step_in_epoch = 0, 0
        self.sums: dict[str, float] = {}  # of the epoch so far, over all processes: each loss times its images
        self.images = 0
        self.recent: dict[str, Tensor] = {}  # the same since the last look, of this process
        self.recent_images = 0
        self.seconds = 0.0  # of earlier processes
        self.history: list[Row] = []
        self.findings: dict[str, Any] = {}  # what the recipe says of the trained model
        self.kept: dict[str, Tensor] = {}  # and what it keeps of the companion

    def run(self) -> float:
        """Train to the end; returns the seconds that it took, those before an interruption included."""
        state = read_checkpoint(self.job.folder, self.job.plan)
        if state is not None:
            self._restore(state)
        self.fabric.barrier()
        started = time.monotonic() - self.seconds
        speaks, steps = self.fabric.is_global_zero, self.loader.steps
        title = self.job.recipe.spec.partition(":")[0]
        with Log(self.job.folder, title, self.settings.epochs, steps, speaks=speaks, quiet=self.job.quiet) as self.log:
            self.log.begin(self.step)
            at_once = max(1, self.loader.batch_size // (self.fabric.world_size * self.settings.accumulate))
            doubts = self._told(self.job.recipe.doubts(self.model, self.loader.batch_size, at_once))
            while self.epoch < self.settings.epochs:
                self._epoch(started)
            self.log.table(self.history)
            doubts += self._told(self.job.recipe.hindsight(self.history[-1]))
        if self.average is not None and self.average_kept is not None:  # what is saved is judged
            self.average.take_place()
            self.average_kept.take_place()
        if speaks:  # else of the weights that were trained with the companion's, before an average takes their place
            with torch.random.fork_rng():
                self.findings = self.job.recipe.finish(self.model.eval(), self.companion.eval())
            self.findings |= {"doubts": doubts} if doubts else {}
            self.kept = self.job.recipe.keep(self.companion)
        if self.average is not None:
            self.average.take_place()
        return self.seconds

    def _told(self, doubts: list[str]) -> list[str]:
        for doubt in doubts:
            self.log.warn(doubt)
        return doubts

    @property
    def step(self) -> int:
        """Weight steps done since the training began."""
        return self.epoch * self.loader.steps + self.step_in_epoch

    def _epoch(self, started: float) -> None:
        began, first = time.monotonic(), self.step_in_epoch
        every = self.settings.checkpoint_every
        with closing(self.loader.epoch(self.epoch, first)) as portions:  # its threads end with it, also by an error
            for portion in portions:
                lr = self._step(portion)
                self.step_in_epoch += 1
                ends = self.step_in_epoch == self.loader.steps
                saves = bool(every) and self.step % every == 0 and not ends
                if ends or saves or self.step % self.settings.show_every == 0:
                    self._look(lr)
                if saves:
                    self._save(time.monotonic() - started)
        trained = (self.loader.steps - first) * self.loader.batch_size
        speed = trained / max(time.monotonic() - began, 1e-9)
        means = {name: total / max(self.images, 1) for name, total in self.sums.items()}
        watched = self._validate()
        seconds = time.monotonic() - started
        row = {"epoch": self.epoch + 1, "step": self.step, "lr": lr, **means, **watched}
        self.history.append({**row, "images_per_second": round(speed, 1), "seconds": round(seconds, 1)})
        self.epoch, self.step_in_epoch, self.sums, self.images = self.epoch + 1, 0, {}, 0
        self._save(seconds)
        self.log.epoch(self.history)

    def _step(self, portion: Portion) -> float:
        """One weight step; returns the learning rate that it was made with."""
        job, steps = self.job, self.settings.epochs * self.loader.steps
        lr = self.settings.learning_rate * share(self.settings, self.step, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # What a network draws itself, as dropout does, hangs on the step alone: so a resumed run draws the same.
        noise = Draws(job.settings.seed, [self.fabric.global_rank], f"step {self.step}")
        _seed(self.fabric.device, int(noise.integers(2**62, purpose="network")))
        context = Context(
            seed=job.settings.seed,
            epoch=self.epoch,
            step=self.step,
            steps=steps,
            offset=portion.offset,
            total=portion.total,
            companion=self.companion,
            sum_over_processes=lambda tensor: sum_of(self.fabric, tensor),
        )
        for module in self.trained:
            module.train()
        batches = [batch.to(self.fabric.device) for batch in portion.batches if len(batch)]
        with self.fabric.autocast():
            prepared = job.recipe.prepare(self.model, batches, context)
        for batch, ready in zip(batches, prepared, strict=True):
            with self.fabric.autocast():
                losses = job.recipe.step(self.model, ready, context)
            (losses["loss"] * (len(batch) / portion.total)).backward()
            self._count(losses, len(batch))
        reduce_gradients(self.fabric, self.trained)
        if self.settings.clip is not None:
            weights = [p for group in self.optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.step + 1)
        if self.average_kept is not None:
            self.average_kept.update(self.step + 1)
        return lr

    def _count(self, losses: dict[str, Tensor], images: int) -> None:
        """Without waiting for the device."""
        for name, value in losses.items():
            self.recent[name] = self.recent.get(name, 0) + value.detach().double() * images
        self.recent_images += images

    def _look(self, lr: float) -> None:
        """Sum over processes what they counted since the last look, and stop if it went wrong."""
        finite = torch.stack([p.detach().sum() for module in self.trained for p in module.parameters()]).sum()
        counted = [*self.recent.values(), torch.tensor(float(self.recent_images)), finite]
        numbers = sum_of(self.fabric, torch.stack([n.double().to(self.fabric.device) for n in counted])).tolist()
        if not np.isfinite(numbers).all():
            raise UserError(
                f"the loss or the weights are no longer finite by step {self.step}",
                "training has diverged",
                f"lower lr (it is {self.settings.learning_rate:g}), or set clip=1; a checkpoint from before "
                f"is kept in {self.job.folder}",
            )
        for name, number in zip(self.recent, numbers, strict=False):
            self.sums[name] = self.sums.get(name, 0.0) + number
        images = int(numbers[-2])
        self.images += images
        self.log.step(self.step, numbers[list(self.recent).index("loss")] / max(images, 1), lr)
        self.recent, self.recent_images = {}, 0

    def _validate(self) -> dict[str, float]:
        indices, probe = self.job.held_out, self.job.recipe.probe()
        if not len(indices):
            return {}
        self.model.eval()
        size = self.settings.batch_size
        with self.average.worn_by(self.model) if self.average is not None else nullcontext():
            said = {
                f"validation_{name}": value
                for name, value in validate(self.model, self.watched, indices, size, self.fabric).items()
            }
            some = indices[: self.settings.robust_images]
            if probe is not None and len(some) >= (LEAST if isinstance(probe, Fitted) else 1):
                if isinstance(probe, Fitted):  # to one half of them, and tried on the other
                    half = len(some) // 2
                    probe, some = probe.fit(self.model, self.watched.data, some[:half].tolist()), some[half:]
                robust = validate(self.model, self.watched, some, size, self.fabric, probe)
                said |= {f"robust_{name}": value for name, value in robust.items()}
        return said

    def _save(self, seconds: float) -> None:
        self.seconds = seconds
        if self.fabric.is_global_zero:
            state = {
                "model": self.model.state_dict(),
                "companion": self.companion.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict() if self.average is not None else None,
                "average_kept": self.average_kept.state_dict() if self.average_kept is not None else None,
                "epoch": self.epoch,
                "step_in_epoch": self.step_in_epoch,
                "sums": self.sums,
                "images": self.images,
                "seconds": seconds,
                "history": self.history,
            }
            write_checkpoint(self.job.folder, state, self.job.plan)
        self.fabric.barrier()

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.companion.load_state_dict(state["companion"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.average_kept is not None:
            self.average_kept.load_state_dict(state["average_kept"])
        self.epoch, self.step_in_epoch = state["epoch"], state["step_in_epoch"]
        self.sums, self.images = state["sums"], state["images"]
        self.seconds, self.history = state["seconds"], state["history"]


def _seed(device: torch.device, seed: int) -> None:
    """As torch.manual_seed, which takes milliseconds where there are no other devices, for one device."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def lay_out(model: Model, order: torch.memory_format) -> None:
    """How filters lie in memory; their values stay."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=order)


@contextmanager
def reproducible() -> Iterator[None]:
    """The same sums in the same order each time; the caller's random state and choices come back afterwards."""
    cudnn = torch.backends.cudnn
    deterministic, benchmark = cudnn.deterministic, cudnn.benchmark
    with torch.random.fork_rng():
        try:
            cudnn.deterministic, cudnn.benchmark = True, False
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
