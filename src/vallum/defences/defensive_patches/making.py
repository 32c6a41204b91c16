"""The one loop that makes patches: for all classes and all models at once, whatever they are asked to do.

    from numbers to colours, from colours to pictures with a patch, from pictures to what each model answers, and back.

Each model's pass is turned back on its own, so that memory holds one of them; laying and scenes are turned back once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences.defensive_patches.colours import Colours, roughness, unprintability
from vallum.defences.defensive_patches.consensus import merged_by_gram, merged_by_mean
from vallum.defences.defensive_patches.laying import lay
from vallum.defences.defensive_patches.makers import Consensus, Ensemble, Maker, View, third
from vallum.defences.defensive_patches.pictures import Pictures
from vallum.defences.defensive_patches.scenes import Scenes
from vallum.defences.defensive_patches.settings import Settings
from vallum.errors import UserError
from vallum.images import Batch, Draws
from vallum.threats.search import frozen
from vallum.threats.transfer import MeanLogits

Printer = Callable[[Tensor], Tensor]  # (C, 3, h, w) colours as sent to a printer -> as a camera sees the print


@dataclass
class State:
    """All that the loop remembers from one step to the next."""

    numbers: Tensor  # (K, C, D, h, w): what is optimised, for each copy of the patches
    moments: dict[str, Tensor]  # the optimiser's
    best: Tensor  # (C, 3, h, w): the colours that did best so far
    merged: Tensor  # (C, 3, h, w): the colours after the last merge
    step: int = 0
    best_score: float = float("inf")
    passes: float = 0.0  # images through a model and back; a pass forward alone counts a third
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Making:
    """A search for patches, step by step; `state` at any step and the same arguments give the same end."""

    def __init__(
        self,
        models: dict[str, nn.Module],
        pictures: Pictures,
        maker: Maker,
        mask: Tensor,
        fineness: int,
        colours: Colours,
        scenes: Scenes,
        settings: Settings,
        printer: Printer | None = None,
        start: Tensor | None = None,
    ) -> None:
        self.models, self.pictures, self.maker, self.mask, self.fineness = models, pictures, maker, mask, fineness
        self.colours, self.scenes, self.settings, self.printer = colours, scenes, settings, printer
        self.classes = 1 if maker.universal else len(pictures.data.classes)
        self.lr = settings.lr or (0.001 if settings.optimizer == "sign" else colours.lr)
        steps, rounds = settings.steps, maker.rounds
        self.merges = {round((turn + 1) * steps / rounds): turn for turn in range(rounds)} if maker.copies else {}
        self.stream = pictures.stream(Draws(settings.seed, [0], "patches"), settings.batch_size, steps)
        # An image's steps are a few percent apart in what they show: evenly, and always after the last.
        self.looks = {max(round((turn + 1) * steps / settings.looks), 1) for turn in range(settings.looks)} | {steps}
        begun = start if start is not None else self._noise()
        numbers = begun.repeat(len(models) if maker.copies else 1, 1, 1, 1, 1)
        shown = colours.final(begun)
        self.state = State(numbers, {}, shown, shown)

    def _noise(self) -> Tensor:
        draws = Draws(self.settings.seed, range(self.classes), "patches")
        return self.colours.start(draws, *self.mask.shape).to(self.mask.device)

    def run(self, after: Callable[[State, float], None] = lambda state, loss: None) -> Tensor:
        """(C, 3, h, w): the best patches; `after` is called after each step, with the step's loss."""
        with frozen(nn.ModuleList(self.models.values())):
            while self.state.step < self.settings.steps:
                began = time.perf_counter()
                loss = self._step()
                self.state.step += 1
                if self.state.step in self.merges:
                    self._merge(self.merges[self.state.step])
                if self.state.step in self.looks:
                    self._look()
                self.state.seconds += time.perf_counter() - began
                after(self.state, loss)
        return self.state.best

    def _step(self) -> float:
        state, settings = self.state, self.settings
        batch = self.pictures.batch(self.stream[state.step])
        draws = Draws(settings.seed, batch.keys, f"patches/step {state.step}")
        numbers = state.numbers.requires_grad_()
        shown = self.colours.show(numbers, state.step / settings.steps)  # (K, C, 3, h, w)
        patches = shown.detach().requires_grad_()
        models = list(self.models.values())
        if self.maker.copies:
            groups = [(patches[k], [model]) for k, model in enumerate(models)]
        else:
            chosen = self.maker.asked(models, Draws(settings.seed, [state.step], "patches").each("asked")[0])
            groups = [(patches[0], chosen)]
        loss = sum(self._back(self._views(own, batch, draws), asked, draws) for own, asked in groups) / len(groups)
        wishes = self._wishes(patches)
        if wishes is not None:
            wishes.backward()
            loss += float(wishes.detach())
        assert patches.grad is not None
        (gradient,) = torch.autograd.grad(shown, numbers, patches.grad)
        self._move(gradient)
        return loss

    def _views(self, patches: Tensor, batch: Batch, draws: Draws) -> list[View]:
        printed = patches if self.printer is None else self.printer(patches)
        return self.maker.views(printed, batch.images, batch.labels, draws, self.lay)

    def lay(self, patches: Tensor, images: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """The images with the patch of each label, as the scenes let them be seen, and where it lies."""
        chosen = patches[torch.zeros_like(labels) if len(patches) == 1 else labels]
        shown, there = lay(images, chosen, self.mask, float(self.fineness), self.scenes.placed(draws, images))
        return self.scenes.seen(shown, draws), there

    def _back(self, views: Sequence[View], models: Sequence[nn.Module], draws: Draws) -> float:
        """The loss, its gradient left in the patches."""
        if isinstance(self.maker, Ensemble) and self.maker.average == "logits":
            models = [MeanLogits(models)]
        gradient, total = torch.zeros_like(torch.cat([view.seen.detach() for view in views])), 0.0
        for model in models:
            points = torch.cat([self.maker.attacked(model, view, draws) for view in views]).requires_grad_()
            loss = _weighed(views, model(points)) / len(models)
            gradient += torch.autograd.grad(loss, points)[0]
            total += float(loss.detach())
            self.state.passes += self._asked(model) * len(points)
        torch.cat([view.seen for view in views]).backward(gradient)
        return total

    def _asked(self, model: nn.Module) -> float:
        """Passes that one image takes, with the attack on it."""
        attack = self.maker.attack_steps + 1 / 3 if isinstance(self.maker, Ensemble) and self.maker.eps else 0.0
        return (1 + attack) * (len(model.models) if isinstance(model, MeanLogits) else 1)

    def _wishes(self, patches: Tensor) -> Tensor | None:
        settings, wishes = self.settings, []
        if settings.roughness:
            wishes.append(settings.roughness * roughness(patches, self.mask))
        if settings.unprintability:
            wishes.append(settings.unprintability * unprintability(patches, self.mask))
        return sum(wishes) if wishes else None  # type: ignore[return-value]

    def _move(self, gradient: Tensor) -> None:
        """A step of the optimiser, whose moments live in the state."""
        state, lr = self.state, self.settings.lr_at(self.state.step, self.lr)
        numbers = state.numbers = state.numbers.detach()
        if self.settings.optimizer == "sign":
            numbers -= lr * gradient.sign()
        else:
            moments = state.moments or {
                "exp_avg": torch.zeros_like(numbers),
                "exp_avg_sq": torch.zeros_like(numbers),
                "step": torch.zeros(()),
            }
            adam = torch.optim.Adam([numbers], lr)
            adam.state[numbers] = moments
            numbers.grad = gradient
            adam.step()
            numbers.grad = None
            state.moments = moments
        self.colours.settle(numbers)

    def _merge(self, turn: int) -> None:
        """One patch of all copies, and copies of it: whose optimiser begins anew, as nothing of its past is theirs."""
        state, maker = self.state, self.maker
        assert isinstance(maker, Consensus)
        copies = self.colours.show(state.numbers)
        merged = merged_by_mean(copies)
        if maker.merge == "gram":
            merged = self._gram(copies, turn)
        state.merged, state.moments = merged, {}
        state.numbers = self.colours.of(merged).repeat(len(copies), 1, 1, 1, 1)

    def _gram(self, copies: Tensor, turn: int) -> Tensor:
        maker, settings = self.maker, self.settings
        assert isinstance(maker, Consensus)
        draws = Draws(settings.seed, [turn], "patches/merge")
        batches = map(self.pictures.batch, self.pictures.stream(draws, settings.batch_size, maker.merge_steps))
        scenes = [(batch.images, batch.labels) for batch in batches]
        height, width = scenes[0][0].shape[2:]
        above, left = (height - self.mask.shape[0]) // 2, (width - self.mask.shape[1]) // 2
        around = (left, width - self.mask.shape[1] - left, above, height - self.mask.shape[0] - above)
        mask, wide = F.pad(self.mask, around), F.pad(copies, around)
        found = merged_by_gram(wide, mask, scenes, third(maker.merge_lr, turn), F.pad(self.state.merged, around))
        return found[..., above : above + self.mask.shape[0], left : left + self.mask.shape[1]]

    def _look(self) -> None:
        """What the patches are worth as they would be printed; the best so far are kept."""
        state = self.state
        with torch.no_grad():
            final = self.colours.final(state.numbers.detach())
            patches = final[0] if len(final) == 1 else self.colours.final(self.colours.of(final.mean(0)))
        row = {"step": float(state.step), **self.worth(patches)}
        if row["loss"] < state.best_score:
            state.best, state.best_score = patches, row["loss"]
        state.history.append(row)

    def worth(self, patches: Tensor) -> dict[str, float]:
        """On images that patches are not made on: the maker's loss, and how often each model sees the class told."""
        settings = self.settings
        loss, right, count = 0.0, dict.fromkeys(self.models, 0), 0
        chosen = self.pictures.select[: settings.watch]
        for start in range(0, len(chosen), settings.batch_size):
            batch = self.pictures.batch(chosen[start : start + settings.batch_size])
            if not len(batch):
                continue
            draws = Draws(settings.seed, batch.keys, "patches/look")
            with torch.no_grad():
                views = self._views(patches, batch, draws)
            for name, model in self.models.items():
                points = torch.cat([self.maker.attacked(model, view, draws) for view in views])
                with torch.no_grad():
                    logits = model(points)
                    loss += float(_weighed(views, logits)) * len(batch) / len(self.models)
                right[name] += int((logits[: len(batch)].argmax(1) == batch.labels).sum())
                self.state.passes += (self._asked(model) - 2 / 3) * len(points)
            count += len(batch)
        if not count:
            raise UserError("none of the images to choose by can be read", remedy="check the data")
        return {"loss": loss / count, **{f"right {name}": hits / count for name, hits in right.items()}}


def _weighed(views: Sequence[View], logits: Tensor) -> Tensor:
    parts = logits.split([len(view.seen) for view in views])
    losses = [view.weight * view.losses(part).mean() for view, part in zip(views, parts, strict=True)]
    return torch.stack(losses).sum()


def around_the_middle(mask: Tensor) -> Tensor:
    """The mask without the empty rows and columns around it, as many on one side as on the other."""
    rows, columns = (mask.any(1 - axis).nonzero()[:, 0] for axis in (0, 1))
    above, left = (
        int(min(found.min(), size - 1 - found.max())) for found, size in zip((rows, columns), mask.shape, strict=True)
    )
    return mask[above : mask.shape[0] - above, left : mask.shape[1] - left]


def fine(mask: Tensor, fineness: int) -> Tensor:
    """The mask with so many pixels for each of its own, each way."""
    return mask.repeat_interleave(fineness, 0).repeat_interleave(fineness, 1)
