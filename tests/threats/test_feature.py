"""Feature distance on networks whose features are known, and the hook that must not stay."""

from __future__ import annotations

import pytest
import torch
from threat_oracles import Exact, drawn
from torch import Tensor, nn

import vallum
from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.threats import Feature
from vallum.threats.feature import watched
from vallum.threats.losses import margin

IMAGES = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2


class One(nn.Module):
    """One feature; the more it differs from what it is of a grey image, the less sure the answer, which stays."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.fails = nn.Sequential(nn.Flatten(), nn.Linear(108, 1)), nn.Linear(1, 1), False
        with torch.no_grad():
            self.body[1].weight.copy_(drawn(1, 108))
            self.body[1].bias.copy_(-0.5 * drawn(1, 108).sum())
            self.head.weight.fill_(1.0), self.head.bias.zero_()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if self.fails:
            raise KeyboardInterrupt
        far = self.head(self.body(images)).abs()
        return torch.cat([torch.zeros_like(far), far - 1e4], 1)


@pytest.mark.parametrize("layer", [None, "body", "body.1"])
@pytest.mark.parametrize(("norm", "dual"), [("inf", 1), ("2", 2)])
def test_the_feature_goes_as_far_as_the_ball_lets_it(layer: str | None, norm: str, dual: int) -> None:
    model, grey = One(), torch.full((4, 3, 6, 6), 0.5)
    found = Feature(eps=0.2, norm=norm, steps=20, layer=layer)(model, grey, torch.zeros(4, dtype=torch.long))
    wanted = 0.2 * float(drawn(1, 108).norm(dual))
    torch.testing.assert_close(model.body(found).abs().detach(), torch.full((4, 1), wanted), rtol=0.01, atol=0)


def test_the_best_is_chosen_by_the_decision_and_more_of_everything_never_reports_less() -> None:
    labels = Exact()(IMAGES).argmax(1)
    reached = [
        margin(Exact()(Feature(eps=0.1, steps=10, restarts=n, early_stop=False)(Exact(), IMAGES, labels)), labels)
        for n in (1, 2, 4)
    ]
    assert bool((reached[0] <= reached[1]).all())
    assert bool((reached[1] <= reached[2]).all())
    assert bool((reached[0] < reached[2]).any())


def test_the_hook_goes_whatever_happens() -> None:
    model = One()
    with watched(model, None) as seen:
        assert seen(model(IMAGES)).shape == (4, 1)
        assert len(model.head._forward_hooks) == 1
    model.fails = True
    with pytest.raises(KeyboardInterrupt):
        Feature(eps=0.1, steps=2)(model, IMAGES, torch.zeros(4, dtype=torch.long))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("net", ["net:resnet?classes=5", "net:vit?classes=5"])
def test_on_networks_the_features_are_what_enters_the_head(net: str) -> None:
    model, images = vallum.load_model(net).eval(), torch.rand(2, 3, 32, 32)
    with watched(model, None) as seen:
        features = seen(model(images))
    assert features.shape[0] == 2
    assert features.flatten(1).shape[1] > 5


def test_pixels_without_a_label_do_not_count() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    labels = model(IMAGES).argmax(1)
    labels[:, :3] = IGNORE
    found = Feature(eps=0.5, norm="2", steps=10, early_stop=False)(model, IMAGES, labels)
    moved = (found - IMAGES).square().sum((1, 3))  # (N, H): a pixel's features depend on that pixel alone
    assert float(moved[:, :3].sum()) < 0.1 * float(moved[:, 3:].sum())


def test_an_unknown_layer_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean body"):
        Feature(eps=0.1, layer="bodi")(One(), IMAGES, torch.zeros(4, dtype=torch.long))
