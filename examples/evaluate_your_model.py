"""Your own network, your own images: what noise and an attack leave of it."""

import torch
from torch import nn

import vallum


class Net(nn.Module):
    """Any network will do: normalisation is given to vallum, so that images stay in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.layers(images)}


if __name__ == "__main__":
    torch.manual_seed(0)
    images = torch.rand(100, 3, 32, 32)
    labels = (images[:, 0].mean((1, 2)) > 0.5).long()  # is there more red than usual?
    net = Net()
    net(images)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(net((images - 0.5) / 0.29)["logits"], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    model = vallum.load_model(net.eval(), classes=["less red", "more red"], mean=0.5, std=0.29)
    run = vallum.evaluate(
        {"mine": model},
        (images, labels),
        ["gaussian:std=0.1", "pgd:eps=8/255,steps=10", "pgd:eps=1,norm=2,steps=10"],
        out="runs/example-your-model",
    )
    for row in run.summary:
        print(f"{row['threat']:32} {row['value']:.2f}  [{row['low']:.2f}, {row['high']:.2f}]")
