"""Every task keeps the contract; what each shows and what it asks."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from repair_toys import ALL, BUILD, SETTINGS, SHAPE, Suns, network, pictures, untrained
from torch import Tensor, nn

import vallum
from vallum.defences import SelfSupervised
from vallum.defences.self_supervision import TASKS, Backbone, Features, Layout, SelfTask, read_tasks, write_tasks
from vallum.defences.self_supervision.objective import Objective, without_conflict
from vallum.defences.self_supervision.tasks.jigsaw import far_apart
from vallum.defences.self_supervision.views import Box, cropped, recoloured, turned
from vallum.errors import UserError
from vallum.images import Draws, Task
from vallum.models import Model, load_model
from vallum.models.model import Wrapped

IMAGES = pictures(5)


def parts(name: str, **how: object) -> tuple[SelfTask, nn.Module, Backbone]:
    backbone = Backbone(network().double())
    task = TASKS[name](**how)
    torch.manual_seed(2)
    head = task.head(backbone.layout(IMAGES.double())).double().eval()
    return task, head, backbone


def losses(task: SelfTask, head: nn.Module, backbone: Backbone, images: Tensor, draws: Draws) -> Tensor:
    layout = Layout(SHAPE, 16, (12, 8, 8))
    drawn = task.draw(draws, layout)
    seen = {name: backbone(look) for name, look in task.looks(images, drawn).items()}
    return task.losses(head, seen, images, drawn)


@pytest.mark.parametrize("name", list(TASKS))
@pytest.mark.parametrize("own", [True, False])
def test_every_task_says_of_each_image_alone_how_badly_it_does(name: str, own: bool) -> None:
    task, head, backbone = parts(name)
    images = IMAGES.double().requires_grad_()
    draws = Draws(3, range(5) if own else [0])
    found = losses(task, head, backbone, images, draws)
    assert found.shape == (5,)
    assert bool(found.isfinite().all())
    (gradient,) = torch.autograd.grad(found[1], images, retain_graph=True)
    assert bool(gradient[1].any())
    assert not gradient[[0, 2, 3, 4]].any()
    alone = losses(task, head, backbone, images[1:2], draws.take(torch.tensor([1])) if own else draws)
    assert torch.allclose(alone[0], found[1], rtol=1e-10)
    assert torch.equal(losses(task, head, backbone, images, draws), found)
    assert TASKS.parse(TASKS.spec(task)) == task
    # The unrolled attack needs gradients of gradients.
    (first,) = torch.autograd.grad(found.sum(), images, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), images)
    way = torch.randn(images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)

    def squared(step: float) -> float:
        point = (images + step * way).detach().requires_grad_()
        return float(torch.autograd.grad(losses(task, head, backbone, point, draws).sum(), point)[0].square().sum())

    differences = (squared(1e-6) - squared(-1e-6)) / 2e-6
    assert float((second * way).sum()) == pytest.approx(differences, rel=1e-4)


@pytest.mark.parametrize("name", list(TASKS))
def test_every_head_learns_to_do_its_task(name: str) -> None:
    task, head, backbone = parts(name)
    head.float().train()
    backbone = Backbone(network())
    images, layout = pictures(48), backbone.layout(IMAGES)
    optimizer = torch.optim.Adam(head.parameters(), 0.01)
    values = []
    for step in range(25):
        drawn = task.draw(Draws(step, range(48)), layout)
        with torch.no_grad():
            seen = {look: backbone(shown) for look, shown in task.looks(images, drawn).items()}
        loss = task.learning(head, seen, images, drawn).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-5:]) < 0.97 * sum(values[:5])
    assert all(p.grad is not None and bool(p.grad.any()) for p in head.parameters() if p.ndim > 1)


def test_contrastive_counts_every_pair_against_the_bank() -> None:
    """By hand: V views, each with each other; below the line the bank, while learning the others of the batch."""
    task, head, backbone = parts("contrastive", views=3, bank=7, temperature=0.5)
    head.others.copy_(F.normalize(torch.randn(7, 128, dtype=torch.double), dim=1))  # type: ignore[union-attr]
    drawn = task.draw(Draws(0, [0]), Layout(SHAPE, 16, None))
    seen = {name: backbone(look) for name, look in task.looks(IMAGES.double(), drawn).items()}
    lie = [head(features.pooled).detach() for features in seen.values()]  # V of (N, 128)
    for learning in (False, True):
        expected = []
        for i in range(5):
            terms = []
            for v in range(3):
                for w in range(3):
                    if v == w:
                        continue
                    together = math.exp(float(lie[v][i] @ lie[w][i]) / 0.5)
                    others = (
                        head.others if not learning else torch.cat([z[[j for j in range(5) if j != i]] for z in lie])
                    )  # type: ignore[union-attr]
                    apart = sum(math.exp(float(lie[v][i] @ other) / 0.5) for other in others)  # type: ignore[union-attr]
                    terms.append(-math.log(together / (together + apart)))
            expected.append(sum(terms) / len(terms))
        found = (task.learning if learning else task.losses)(head, seen, IMAGES.double(), drawn)
        assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_views_that_fall_apart_are_never_rewarded() -> None:
    """Of four views, two pulled away from the others must lose more: the published loss gained by it."""

    class Given(nn.Module):
        others = F.normalize(torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), dim=1)

        def forward(self, features: Tensor) -> Tensor:
            return F.normalize(features, dim=1)

    task = TASKS["contrastive"](views=4)
    names = [task.named(view) for view in range(4)]  # type: ignore[attr-defined]
    one = F.normalize(torch.randn(1, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    values = []
    for pulled in (1.0, -1.0):
        lie = [one, one, pulled * one, pulled * one]
        seen = {name: Features(z, None, z) for name, z in zip(names, lie, strict=True)}
        values.append(float(task.losses(Given(), seen, IMAGES, None)))
    assert values[0] < values[1]


def test_rotation_and_jigsaw_show_what_they_ask_for() -> None:
    rotation = TASKS["rotation"]()
    for quarter, look in enumerate(
        rotation.looks(IMAGES, rotation.draw(Draws(0, [0]), Layout(SHAPE, 1, None))).values()
    ):
        assert torch.equal(look, IMAGES.rot90(quarter, (2, 3)))
    some = TASKS["rotation"](count=2)
    drawn = some.draw(Draws(0, range(5)), Layout(SHAPE, 1, None))
    for place, look in enumerate(some.looks(IMAGES, drawn).values()):
        for i in range(5):
            assert torch.equal(look[i], IMAGES[i].rot90(int(drawn[i, place]), (1, 2)))
    assert len({tuple(row) for row in drawn.tolist()}) > 1
    wide = torch.rand(3, 3, 8, 12)
    assert turned(wide, torch.tensor([1])).shape == wide.shape

    jigsaw = TASKS["jigsaw"](grid=3, orders=20)
    drawn = jigsaw.draw(Draws(0, range(5)), Layout(SHAPE, 1, None))
    (laid,) = jigsaw.looks(IMAGES, drawn).values()
    orders = far_apart(9, 20)
    for i in range(5):
        for place, source in enumerate(orders[drawn[i, 0]].tolist()):
            (r, c), (sr, sc) = divmod(place, 3), divmod(source, 3)
            tile = laid[i, :, 5 * r : 5 * r + 5, 5 * c : 5 * c + 5]
            assert torch.equal(tile, IMAGES[i, :, 5 * sr : 5 * sr + 5, 5 * sc : 5 * sc + 5])
    assert torch.equal(laid[:, :, 15:], IMAGES[:, :, 15:])  # what is left over stays
    assert len({tuple(order.tolist()) for order in orders}) == 20
    closest = min(int((one != other).sum()) for i, one in enumerate(orders) for other in orders[:i])
    assert closest >= 7


def test_what_is_hidden_is_hidden_and_alone_counts() -> None:
    for name, share in (("inpainting", 0.25), ("masked", 0.5)):
        task, head, backbone = parts(name)
        drawn = task.draw(Draws(0, [0]), Layout(SHAPE, 16, (12, 8, 8)))
        assert float(drawn.double().mean()) == pytest.approx(share)
        (look,) = task.looks(IMAGES, drawn).values()
        assert bool((look[:, :, drawn[0, 0]] == 0.5).all())
        assert torch.equal(look[:, :, ~drawn[0, 0]], IMAGES[:, :, ~drawn[0, 0]])
        said = head(backbone(look.double()).map)
        expected = (said - IMAGES).square()[:, :, drawn[0, 0]].mean((1, 2))
        found = losses(task, head, backbone, IMAGES.double(), Draws(0, [0]))
        assert torch.allclose(found, expected)
    random = TASKS["inpainting"](place="random").draw(Draws(0, range(30)), Layout(SHAPE, 16, (12, 8, 8)))
    assert len({tuple(row.flatten().tolist()) for row in random}) > 10
    assert bool((random.flatten(1).sum(1) == 64).all())


def test_a_network_that_moves_what_it_sees_loses_nothing_at_equivariance() -> None:
    """Features that are the pixels themselves, and a head that passes them on: only the contrast is left."""
    task = TASKS["equivariance"](smallest=1.0, temperature=0.01)
    drawn = task.draw(Draws(1, range(5)), Layout(SHAPE, 3, SHAPE))
    seen = {n: Features(x.mean((2, 3)), x, x) for n, x in task.looks(torch.rand(5, 3, 8, 8), drawn).items()}
    noise = {n: Features(f.pooled, torch.rand(5, 3, 8, 8), f.logits) for n, f in seen.items()}
    ideal, bad = (task.losses(nn.Identity(), one, IMAGES, drawn) for one in (seen, noise))
    assert bool((ideal < 0.2 * bad).all())


def test_a_box_is_cut_out_as_interpolation_does_it() -> None:
    box = Box(torch.tensor([[0.25, 0.0]]), torch.tensor([[0.5, 0.75]]), torch.tensor([[False, False]]))
    images = torch.rand(2, 3, 16, 16, dtype=torch.double)
    at = lambda start, size: (torch.arange(16) + 0.5) / 16 * size + start  # noqa: E731
    rows, columns = at(0.25, 0.5) * 2 - 1, at(0.0, 0.75) * 2 - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[None].expand(2, -1, -1, -1).double()
    expected = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    assert torch.allclose(cropped(images, box), expected)
    whole = Box(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([[False, True]]))
    assert torch.allclose(cropped(images, whole), images.flip(3))
    boxes = Box.draw(Draws(0, range(400)), 0.3, "view")
    area = boxes.size.prod(1)
    assert 0.25 < float(area.min()) < 0.4
    assert bool((boxes.start >= 0).all())
    assert bool((boxes.start + boxes.size <= 1 + 1e-6).all())
    assert 0.4 < float(boxes.mirrored[:, 1].float().mean()) < 0.6
    assert not boxes.mirrored[:, 0].any()
    as_it_is = recoloured(images, torch.ones(1, 3), torch.tensor([False]))
    assert torch.allclose(as_it_is, images)
    grey = recoloured(images, torch.ones(1, 3), torch.tensor([True]))
    assert torch.allclose(grey[:, 0], grey[:, 1])


def test_looks_of_one_name_are_passed_once_and_maps_alone_end_early() -> None:
    defence = untrained("contrastive(anchor=true)+rotation+consistency+equivariance+inpainting")
    shown: list[tuple[int, bool]] = []

    def read(looks: Tensor, map_alone: bool) -> Features:
        shown.append((len(looks), map_alone))
        return defence.backbone(looks, map_alone)

    objective = defence.objective
    together = objective.losses(read, IMAGES, objective.fixed(0))
    # Whole: the image, three turns, and a view that two tasks share; maps alone: a part, a hole.
    assert shown == [(5 * 5, False), (2 * 5, True)]
    apart = objective.losses(read, [IMAGES] * 5, objective.fixed(0))
    assert torch.allclose(together, apart, atol=1e-5)
    assert shown[2:] == [(5 * (2 + 4 + 2), False), (5 * 3, True)]


def test_conflicting_gradients_are_projected() -> None:
    torch.manual_seed(0)
    each = torch.randn(3, 4, 3, 2, 2, dtype=torch.double)
    found = without_conflict(each)
    for n in range(4):
        g = [each[t, n].flatten() for t in range(3)]
        kept = []
        for i in range(3):
            mine = g[i].clone()
            for j in [j for j in range(3) if j != i]:
                if mine @ g[j] < 0:
                    mine -= (mine @ g[j]) / (g[j] @ g[j]) * g[j]
            kept.append(mine)
        assert torch.allclose(found[n].flatten(), sum(kept))  # type: ignore[arg-type]


def test_each_tasks_gradient_comes_from_one_pass() -> None:
    defence = untrained("rotation+inpainting+contrastive").double()
    objective, images = defence.objective, IMAGES.double().requires_grad_()
    objective.std.copy_(torch.tensor([0.5, 2.0, 1.0]))
    losses = objective.losses(defence.backbone, images, objective.fixed(0))
    each = [torch.autograd.grad(losses[:, t].sum(), images, retain_graph=True)[0] for t in range(3)]
    summed, _ = objective.descent(defence.backbone, images, objective.fixed(0), "standard", "sum")
    assert torch.allclose(summed, each[0] / 0.5 + each[1] / 2 + each[2])
    units, _ = objective.descent(defence.backbone, images, objective.fixed(0), "paper", "grad_norm")
    unit = [g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for g in each]
    assert torch.allclose(units, 50 * unit[0] + 10 * unit[1] + unit[2])


def test_tasks_are_named_in_specs_and_mistakes_are_told() -> None:
    text = "contrastive(views=4,temperature=0.1)+rotation(count=2)+jigsaw"
    assert write_tasks(read_tasks(text)) == text
    for wrong, said in (
        ("", "names no task"),
        ("rotation+rotation(count=1)", "rotation twice"),
        ("rotate", "did you mean rotation"),
        ("rotation(count=2", "brackets"),
        ("rotation(count=7)", "four ways"),
        ("contrastive(views=1)", "two at least"),
        ("jigsaw(grid=1)", "grid of 2"),
        ("inpainting(hole=2)", "between 0 and 1"),
        ("masked(share=0)", "between 0 and 1"),
        ("equivariance(count=0)", "at least 1"),
    ):
        with pytest.raises(UserError, match=said):
            read_tasks(wrong)
    with pytest.raises(UserError, match="a whole image"):
        untrained("rotation", Task.SEGMENT)


OWN = """
from dataclasses import dataclass
import torch.nn.functional as F
from torch import nn
from vallum.defences.self_supervision import SelfTask
from vallum.specs import parameter

@dataclass(frozen=True)
class Darker(SelfTask):
    by: float = parameter("share of the light that is taken away", 0.3)

    def head(self, layout):
        return nn.Linear(layout.pooled, 1)

    def looks(self, images, drawn):
        return {"image": images, "darker": images * (1 - self.by)}

    def losses(self, head, seen, images, drawn):
        return F.softplus(head(seen["darker"].pooled) - head(seen["image"].pooled))[:, 0]

class NoTask:
    pass
"""


def test_a_task_of_ones_own_is_one_class_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    tasks = f"rotation+{file}:Darker(by=0.5)"
    assert write_tasks(read_tasks(tasks)) == tasks
    assert read_tasks(tasks)[1].name == "Darker"
    model = vallum.train(
        network(), Suns(64), f"self_supervision:tasks={tasks}", out=tmp_path / "out", build=BUILD,
        **{**SETTINGS, "epochs": 1},  # type: ignore[arg-type]
    )  # fmt: skip
    assert isinstance(model, SelfSupervised)
    assert torch.equal(load_model(tmp_path / "out", trust=True)(IMAGES), model(IMAGES))
    with pytest.raises(UserError, match="running code"):
        load_model(tmp_path / "out")
    with pytest.raises(UserError, match="is made by running code"):
        read_tasks(tasks, trust=False)
    with pytest.raises(UserError, match="is no task"):
        read_tasks(f"{file}:NoTask")


@pytest.mark.parametrize(
    ("source", "size", "layout"),
    [
        ("builtin:signs_resnet", (32, 32), (192, (48, 8, 8))),
        ("builtin:signs_vit", (32, 32), (96, (96, 8, 8))),
        ("timm:resnet18?num_classes=4", (64, 64), (512, (128, 8, 8))),
        ("net:segmenter?classes=4", (32, 64), (24, (24, 16, 32))),
        ("timm:swin_tiny_patch4_window7_224?num_classes=4&img_size=64", (64, 64), (768, (192, 8, 8))),
    ],
)
def test_features_are_found_in_networks_of_all_kinds(source: str, size: tuple[int, int], layout: tuple) -> None:
    model = load_model(source)
    images = torch.rand(2, 3, *size)
    backbone = Backbone(model)
    found = backbone.layout(images)
    assert (found.pooled, found.map) == layout
    assert torch.equal(backbone(images).logits, model(images))
    assert torch.allclose(backbone(images, map_alone=True).map, backbone(images).map)  # type: ignore[arg-type]
    assert not any(module._forward_hooks for module in model.modules())


def test_the_pooled_feature_is_what_the_last_layer_decides_from() -> None:
    model = network()
    features = Backbone(model)(IMAGES)
    assert torch.allclose(model.network[-1](features.pooled), features.logits)  # type: ignore[index, operator]
    named = Backbone(model, pooled="network.0.2", map="network.0.0")(IMAGES)
    assert torch.allclose(named.pooled, features.pooled, atol=1e-6)
    assert named.map is not None
    assert named.map.shape == (5, 8, 16, 16)


def test_a_model_without_features_says_so() -> None:
    class Odd(Model):
        classes = ("0", "1")

        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))[:, :2]

    linear = Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), classes=4).eval()
    assert SelfSupervised(linear, "contrastive", SHAPE)(IMAGES).shape == (5, 4)  # pixels are features, if poor ones
    for model, tasks, said in (
        (Odd(), "rotation", "no linear layer"),
        (linear, "inpainting", "inpainting reads a map"),
    ):
        with pytest.raises(UserError, match=said):
            SelfSupervised(model, tasks, SHAPE)
    with pytest.raises(UserError, match="has no layer"):
        SelfSupervised(network(), "rotation", SHAPE, map="network.9")


def test_what_is_settled_is_the_mean_the_deviation_and_the_quantiles_of_clean_images() -> None:
    defence = untrained("rotation+inpainting")
    objective, images = defence.objective, pictures(40)
    assert not objective.settled
    objective.settle(defence.backbone, images, batch=16)
    assert objective.settled
    with torch.no_grad():
        drawn = objective.draw(Draws(0, range(30), "self-supervision/clean"))
        found = objective.losses(defence.backbone, images[10:], drawn).double()  # not those that are kept as examples
    assert torch.allclose(objective.mean.double(), found.mean(0), rtol=1e-4)
    assert torch.allclose(objective.std.double(), found.std(0, correction=0), rtol=1e-4)
    with torch.no_grad():
        assert torch.allclose(objective.examples[13], defence.backbone(images[3:4]).pooled[0], atol=1e-5)
    assert torch.allclose(objective.quantiles[:, 50].double(), found.quantile(0.5, 0), rtol=1e-4)
    does_well = objective.below(found.float(), 0.5)
    assert torch.equal(does_well, (found <= objective.quantiles[:, 50]).all(1))
    assert bool(objective.below(found.float() - 1e-6, 1.0).all())
    twin = Objective(objective.tasks, objective.layout)
    twin.load_state_dict(objective.state_dict())
    assert twin.settled


def test_all_tasks_together_are_each_alone() -> None:
    defence = untrained(ALL).double()
    objective, images = defence.objective, IMAGES.double()
    together = objective.losses(defence.backbone, images, objective.fixed(2))
    for place, task in enumerate(objective.tasks):
        drawn = task.draw(Draws(0, [0], "self-supervision/step 2"), objective.layout)
        seen = {name: defence.backbone(look) for name, look in task.looks(images, drawn).items()}
        alone = task.losses(objective.heads[task.name], seen, images, drawn)
        assert torch.allclose(together[:, place], alone, rtol=1e-10)
