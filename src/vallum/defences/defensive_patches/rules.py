"""Ways to use patches without being told the class: the patch is laid on by whoever recognises, not by who knows.

They are models around a model, and so are attacked as any defence is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vallum.defences.base import Defence
from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.errors import UserError
from vallum.models.model import Model


class Rule(Defence):
    """Subclasses say what they make of `self.patches`."""

    randomised, exact_gradient, stateful = False, True, False

    def __init__(self, model: Model, patches: PatchSet) -> None:
        super().__init__(model)
        if patches.universal:
            raise UserError("one patch for all classes", "a rule asks which patch fits best", "lay it on as it is")
        self.patches = patches
        self.classes = patches.classes
        self.register_buffer("worn", patches.patches.clone())  # so that the patches are part of what it is


class Diagonal(Rule):
    """Try the patch of each class, and answer the class that is surest of itself under its own (C-AVP's rule).

    It takes as many passes as there are classes.
    """

    at_once: int = 8  # patches in one pass: memory against speed

    def forward(self, images: Tensor) -> Tensor:
        found = []
        for start in range(0, len(self.patches), self.at_once):
            these = torch.arange(start, min(start + self.at_once, len(self.patches)), device=images.device)
            worn = these.repeat_interleave(len(images))
            logits = self.model(self.patches.lay(images.repeat(len(these), 1, 1, 1), worn))
            sure = logits.log_softmax(1).gather(1, worn[:, None])[:, 0]
            found.append(sure.view(len(these), len(images)).T)
        return torch.cat(found, 1)  # (N, C)


class TwoPass(Rule):
    """Predict, lay on the patch of what was predicted, predict again.

    What the first pass chooses has no gradient; an attack on the sum of both passes leads it astray as well.
    """

    def forward(self, images: Tensor) -> Tensor:
        return self.passes(images)[1]

    def passes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        first = self.model(images)
        return first, self.model(self.patches.lay(images, first.argmax(1)))

    def stand_ins(self) -> dict[str, Model]:
        return {"both passes": BothPasses(self)}


class BothPasses(Model):
    """What two passes say together: where either is led to another class, so is this."""

    def __init__(self, rule: TwoPass) -> None:
        super().__init__()
        self.rule = rule
        self.task, self.classes, self.size, self.differentiable = rule.task, rule.classes, rule.size, True
        self.train(rule.training)

    def forward(self, images: Tensor) -> Tensor:
        first, second = self.rule.passes(images)
        return first.log_softmax(1) + second.log_softmax(1)


RULES: dict[str, type[Rule]] = {"diagonal": Diagonal, "two pass": TwoPass}
