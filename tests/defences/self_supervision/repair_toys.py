"""A small network, small pictures, and a repair around it whose heads learnt in seconds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vallum.data import Data
from vallum.defences import SelfSupervised
from vallum.images import Draws, Task
from vallum.models.model import Model, Wrapped

ALL = "contrastive+rotation+inpainting+equivariance+consistency+jigsaw+masked"
THREE = "contrastive(hidden=32,dim=16,bank=32)+rotation(hidden=32)+inpainting(width=16)"
SHAPE = (3, 16, 16)
BUILD = f"{__file__}:net"  # what a saved folder says of the network
SETTINGS = {
    "epochs": 4, "lr": 3e-3, "optimizer": "adamw", "batch_size": 32, "shift": 0.0, "colour": 0.0,
    "checkpoint_every": 0, "validation": 0.05, "quiet": True,
}  # fmt: skip


class Suns(Data):
    """A bright disc in one quarter of a sky that is darker below: the quarter is the class, and there is an up."""

    spec = "suns"
    task = Task.CLASSIFY
    classes = ("top left", "top right", "bottom left", "bottom right")

    def __init__(self, n: int, start: int = 0) -> None:
        self.n, self.start = n, start

    def __len__(self) -> int:
        return self.n

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        return sun(self.start + index), torch.tensor(index % 4)

    def identity(self, index: int) -> bytes:
        return str(self.start + index).encode()


def sun(index: int) -> Tensor:
    light, x, y, *tint = Draws(0, [index], "suns").uniform(6, purpose="sky")[0].tolist()
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    sky = (0.5 + 0.2 * light - 0.02 * rows).expand(3, 16, 16) * (0.6 + 0.4 * torch.tensor(tint).view(3, 1, 1))
    row, column = 3.5 + 8 * (index % 4 // 2) + x, 3.5 + 8 * (index % 2) + y
    disc = ((rows - row).square() + (columns - column).square() < 5).float()
    return (sky + 0.3 * disc).clamp(0, 1)


def net(segments: bool = False) -> nn.Module:
    """Convolutions down to 4x4, and smooth, so that derivatives can be checked."""
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.SiLU()),
        nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.SiLU()),
        nn.Sequential(nn.Conv2d(12, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU()),
    )
    with torch.no_grad():  # statistics that are not those of a new layer
        body.train()((Suns(64).batch(range(64)).images - 0.5) / 0.25)
    if segments:
        return nn.Sequential(body, nn.Upsample(scale_factor=4, mode="nearest"), nn.Conv2d(16, 4, 1)).eval()
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()


def network(task: Task = Task.CLASSIFY) -> Model:
    return Wrapped(net(task is Task.SEGMENT), task=task, classes=4, mean=0.5, std=0.25).eval()


def untrained(tasks: str = ALL, task: Task = Task.CLASSIFY, **settings: object) -> SelfSupervised:
    torch.manual_seed(1)
    return SelfSupervised(network(task), tasks, SHAPE, **settings).eval()  # type: ignore[arg-type]


def pictures(n: int = 6) -> Tensor:
    return Suns(n, start=3000).batch(range(n)).images
