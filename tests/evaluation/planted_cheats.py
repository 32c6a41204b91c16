"""Models that only look robust, each in a way that is known to fool attacks, and none of which says so.

Each is a function from the images and the network within to logits; it is planted as a plain module, and as a Defence
that declares of itself the opposite of what it does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences import Defence
from vallum.models.model import Model


class Cheat(nn.Module):
    """What every cheat is: a plain module around a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()


class Quantises(Cheat):
    """Rounds pixels to five levels: the gradient is zero."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images * 4).round() / 4)


class Saturates(Cheat):
    """Logits ten thousand times as large: what the softmax passes back is too small for a float."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images) * 1e4


class ResizesAtRandom(Cheat):
    """Shrinks and pads by amounts drawn anew at each call, of Xie et al. 2018."""

    def forward(self, images: Tensor) -> Tensor:
        size = images.shape[-1]
        small = int(torch.randint(size * 3 // 4, size + 1, ()))
        top, left = (int(torch.randint(0, size - small + 1, ())) for _ in range(2))
        shrunk = F.interpolate(images, (small, small), mode="bilinear", align_corners=False)
        return self.network(F.pad(shrunk, (left, size - small - left, top, size - small - top)))


class Remembers(Cheat):
    """Answers what is close to a picture that it has met as it answered that one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.met: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        for row, image in enumerate(images.detach()):
            near = [said for seen, said in self.met if float((seen - image).abs().max()) < 0.1]
            if near:
                logits = torch.cat([logits[:row], near[0][None], logits[row + 1 :]])
            elif len(self.met) < 1000:
                self.met.append((image, logits[row].detach()))
        return logits


class StopsTheGradient(Cheat):
    """Smooths the images and keeps the smoothing out of the graph, which then hangs on next to nothing."""

    def forward(self, images: Tensor) -> Tensor:
        smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return self.network(smooth.detach() + 0 * images)


class AdaptsUntilSure(Cheat):
    """Moves each image towards what the network takes it for, and stops once the network is sure of it."""

    def forward(self, images: Tensor) -> Tensor:
        moved = images
        for _ in range(6):
            with torch.enable_grad():
                point = moved.detach().requires_grad_()
                probabilities = self.network(point).softmax(1)
                unsure = probabilities.amax(1) < 0.95
                (gradient,) = torch.autograd.grad(probabilities.amax(1).clamp_min(1e-30).log().sum(), point)
            if not bool(unsure.any()):
                break
            moved = moved + 4 / 255 * gradient.sign() * unsure.view(-1, 1, 1, 1)
        return self.network(moved)


CHEATS: list[type[Cheat]] = [
    Quantises, Saturates, ResizesAtRandom, Remembers, StopsTheGradient, AdaptsUntilSure
]  # fmt: skip


def lying(cheat: type[Cheat], model: Model) -> Defence:
    """The same as a Defence that declares nothing to be wrong with it."""

    class Lies(Defence):
        randomised, exact_gradient, stateful = False, True, False

        def __init__(self) -> None:
            super().__init__(model)
            self.cheat = cheat(nn.Identity())
            self.cheat.network = self.model

        def forward(self, images: Tensor) -> Tensor:
            return self.cheat(images)

    return Lies()
