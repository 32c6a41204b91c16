"""Small pictures that can be told from noise, and a defence that learnt them in seconds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vallum.data import Data
from vallum.defences import De3, NoisyModellingPretraining
from vallum.images import Draws, Task
from vallum.models import Model, load_model
from vallum.models.model import Wrapped

ENCODER = "timm:vit_tiny_patch16_224?img_size=8&patch_size=2&embed_dim=32&depth=2&num_heads=2&mlp_ratio=2&class_token=false&global_pool=avg"  # noqa: E501
SMALL = f"encoder={ENCODER},width=32,depth=1,heads=2"


class Slopes(Data):
    """Two colours, one going over into the other: the direction, one of four, is the class."""

    spec = "slopes"
    task = Task.CLASSIFY
    classes = ("right", "left", "down", "up")

    def __init__(self, n: int, start: int = 0) -> None:
        self.n, self.start = n, start

    def __len__(self) -> int:
        return self.n

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        return slope(self.start + index), torch.tensor(index % 4)

    def identity(self, index: int) -> bytes:
        return str(self.start + index).encode()


def slope(index: int) -> Tensor:
    low, high = Draws(0, [index], "slopes").uniform(2, 3, purpose="colours")[0]
    way = torch.linspace(0, 1, 8).expand(8, 8)
    way = (way, way.flip(1), way.T, way.T.flip(0))[index % 4]
    return (0.1 + 0.3 * low).view(3, 1, 1) + (0.2 + 0.3 * high).view(3, 1, 1) * way


# How the defence of these tests is trained.
HARDENING = f"noisy_modelling:sigma=0.2,noise=uniform(0,0.5),{SMALL},pretraining_epochs=6,pretraining_lr=0.005"
SETTINGS = {
    "epochs": 3, "lr": 0.05, "batch_size": 32, "shift": 0.0, "colour": 0.0,
    "checkpoint_every": 0, "validation": 0.05, "quiet": True,
}  # fmt: skip


def linear(classes: int = 4) -> Model:
    torch.manual_seed(0)
    return Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(192, classes)), mean=0.5, std=0.25, classes=classes).eval()


def untrained(**settings: object) -> De3:
    """The architecture that is trained in these tests, as it starts."""
    torch.manual_seed(0)
    recipe = NoisyModellingPretraining(encoder=ENCODER, width=32, depth=1, heads=2, **settings)  # type: ignore[arg-type]
    made = recipe.around(linear(), torch.zeros(1, 3, 8, 8))
    assert isinstance(made, De3)
    return made.eval()


def transformer() -> Model:
    """The same architecture as the encoder's, as a classifier."""
    torch.manual_seed(0)
    return load_model(ENCODER, classes=4)


def convolutional() -> Model:
    torch.manual_seed(0)
    return load_model("net:resnet?classes=4")


class Shrinks(nn.Module):
    """A denoiser of one's own: it pulls each image towards its mean."""

    def __init__(self, keep: float = 0.5) -> None:
        super().__init__()
        self.keep = nn.Parameter(torch.tensor(keep))

    def forward(self, noisy: Tensor) -> Tensor:
        mean = noisy.mean((2, 3), keepdim=True)
        return mean + self.keep * (noisy - mean)


class Leaks(nn.Module):
    """A denoiser that looks at the image without noise, as the paper's with its default targets does."""

    sees_images = True

    def forward(self, noisy: Tensor, images: Tensor) -> Tensor:
        return noisy - noisy.mean((2, 3), keepdim=True) + images.mean((2, 3), keepdim=True)
