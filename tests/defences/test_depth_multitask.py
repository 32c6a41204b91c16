"""Depth beside segmentation: gradients, weights, the gate, and that nothing of it is left in what is saved."""

from __future__ import annotations

import copy
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import vallum
from vallum.data import load_clips, load_data
from vallum.defences import Context, DepthMultitask, load_depth, recipe
from vallum.defences.class_weights import weighted_cross_entropy
from vallum.defences.depth_multitask.companion import Companion
from vallum.defences.depth_multitask.feed import Feed
from vallum.defences.depth_multitask.gate import LEARNT
from vallum.defences.depth_multitask.judging import constant_errors, depth_errors
from vallum.defences.depth_multitask.networks import PoseNet, depth_of, inverse_depth, scale_gradient
from vallum.defences.depth_multitask.second_task import picture_loss, strangers
from vallum.defences.depth_multitask.sharing import as_input, beside, encoder_of, features_of
from vallum.defences.recipe import Losses
from vallum.errors import UserError
from vallum.images import Batch
from vallum.models import Model, Wrapped, builtin_names, load_model
from vallum.models.sources.builtin import SHIPPED
from vallum.models.state import read_weights
from vallum.training import train

VIDEO = "builtin:streets?n=6&size=32x64"
DATA = load_data("builtin:streets?n=4&size=32x64&split=train")
BATCH = DATA.batch(range(4))


def segmenter() -> Model:
    torch.manual_seed(0)
    return load_model("net:segmenter", classes=DATA.classes)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0])
def test_scaled_gradients_are_exactly_scaled(factor: float) -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    (plain,) = torch.autograd.grad((x.sin() * x).sum(), x)
    same = scale_gradient(x, factor)
    assert torch.equal(same, x)
    (scaled,) = torch.autograd.grad((same.sin() * same).sum(), x)
    assert torch.equal(scaled, plain * factor)


@pytest.mark.parametrize("balance", [0.0, 0.25, 1.0])
def test_the_encoder_follows_the_balance_and_the_heads_do_not(balance: float) -> None:
    """Against the two gradients taken one by one; without batch norm's statistics, which join the domains."""
    model = segmenter().double().eval()
    images, video = torch.rand(2, 2, 3, 32, 64, dtype=torch.float64).unbind(0)
    encoder = encoder_of(model)

    def see(features: Any) -> Tensor:
        return sum((f.square().mean() for f in features), torch.zeros(()))

    model(images).square().mean().backward()
    segmentation = gradients(model)
    model.zero_grad()
    see(features_of(encoder(video), video)).backward()
    depth = gradients(model)
    model.zero_grad()
    with beside(encoder, video, balance) as seen:
        logits = model(images)
    assert torch.allclose(logits, model(images))
    (logits.square().mean() + see(seen.features)).backward()
    for name, parameter in model.named_parameters():
        expected = segmentation[name]
        if ".encoder." in name:
            expected = balance * segmentation[name] + (1 - balance) * depth.get(name, torch.zeros(()))
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-12)
    assert not encoder._forward_hooks
    assert not encoder._forward_pre_hooks


def test_batch_norm_sees_both_domains_at_once() -> None:
    one, other = segmenter().train(), segmenter().train()
    images, video = torch.rand(2, 2, 3, 32, 64).unbind(0)
    with beside(encoder_of(one), as_input(one, video), 0.5):
        one(images)
    encoder_of(other)(as_input(other, torch.cat([images, video])))
    for (name, mine), theirs in zip(encoder_of(one).named_buffers(), encoder_of(other).buffers(), strict=True):
        torch.testing.assert_close(mine.float(), theirs.float(), msg=name)
    before = one(images)
    with beside(encoder_of(one.eval()), torch.rand(1, 3, 48, 64), 0.5) as seen:  # of another size
        one(images)
    assert seen.features[0].shape[-2:] == (24, 32)
    assert before.shape == (2, 11, 32, 64)


def test_with_all_weight_on_segmentation_depth_changes_nothing() -> None:
    found = []
    for depth_weight in (1.0, 7.0):
        model = segmenter().eval()
        made = DepthMultitask(VIDEO, balance=1.0)
        companion = made.companion(model, BATCH.images)
        companion.decoder.register_forward_hook(lambda m, i, out, w=depth_weight: [o * w for o in out])
        made.step(model, BATCH, Context(companion=companion))["loss"].backward()
        found.append(gradients(model))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_rare_classes_weigh_more() -> None:
    model = segmenter()
    companion = DepthMultitask(VIDEO).companion(model, BATCH.images)
    labels = torch.tensor([[[0, 0, 0, 1], [255, 255, 255, 255]]])
    first = companion.class_weights(labels, 3)
    assert first.tolist() == pytest.approx([1 / math.log(1.85), 1 / math.log(1.35), 1 / math.log(1.1)])
    again = companion.class_weights(torch.full((1, 2, 2), 2), 3)  # from all that was seen
    assert again.tolist() == pytest.approx([1 / math.log(1.1 + s) for s in (3 / 8, 1 / 8, 4 / 8)])
    logits = torch.randn(2, 3, 4, 4)
    target = torch.randint(0, 3, (2, 4, 4))
    target[0, 0] = 255
    expected = [F.cross_entropy(a[None], b[None], again, ignore_index=255) for a, b in zip(logits, target, strict=True)]
    torch.testing.assert_close(weighted_cross_entropy(logits, target, again), torch.stack(expected).mean())
    assert float(weighted_cross_entropy(logits, torch.full_like(target, 255), None)) == 0


def test_forms_of_depth() -> None:
    found = torch.randn(2, 6, 8) * 30
    published = depth_of(inverse_depth(found, "sigmoid"))
    assert published.min() >= 0.099
    assert published.max() <= 100.01
    assert 1 / inverse_depth(torch.zeros(1, 1, 1), "sigmoid").item() == pytest.approx(1 / (0.01 + 9.99 / 2))
    normal = inverse_depth(found, "normalised")
    torch.testing.assert_close(normal.mean((1, 2)), torch.full((2,), 0.1))
    assert bool((normal > 0).all())
    assert depth_of(normal).max() <= 200


def test_motion_is_read_in_the_order_of_time() -> None:
    torch.manual_seed(0)
    net = PoseNet()
    nn.init.normal_(net.body[-1].weight, std=1.0)  # type: ignore[arg-type]
    frames = torch.rand(2, 3, 3, 32, 64)
    before, after = net.both(frames)
    torch.testing.assert_close(
        before @ net(frames[:, 0], frames[:, 1]), torch.eye(4).expand(2, 4, 4), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(after, net(frames[:, 1], frames[:, 2]))
    still, _ = PoseNet().both(frames)  # it begins with hardly any motion
    assert float((still - torch.eye(4)).abs().max().detach()) < 0.01


def test_the_feed_draws_by_step_and_never_what_is_held_out() -> None:
    clips = load_clips("builtin:streets?n=30&size=16x48")
    one, other = Feed(clips, 1e9), Feed(clips, 0)
    for step in (0, 1, 5):
        first, second = one.of_step(3, step, 0, 4), other.of_step(3, step, 0, 4)
        assert first.keys.tolist() == second.keys.tolist()
        assert torch.equal(first.frames, second.frames)  # kept as bytes, and not kept
    assert one.held_out == [5, 15, 25]
    seen = {key for step in range(8) for key in one.of_step(0, step, 0, 16).keys.tolist()}
    assert len(seen) > 20
    assert not seen & {5, 15, 25}
    assert [batch.keys.tolist() for batch in one.judged(2)] == [[5, 15], [25]]
    assert one.of_step(0, 0, 0, 8).keys.tolist() != one.of_step(0, 0, 4, 8).keys.tolist()


@pytest.mark.parametrize("form", ["normalised", "sigmoid"])
def test_a_step_teaches_all_that_it_should(form: Any) -> None:
    model = segmenter().train()
    made = DepthMultitask(VIDEO, form=form, clips=1.0, still_from=0, scales=3)
    companion = made.companion(model, BATCH.images)
    losses = made.step(model, BATCH, Context(companion=companion, total=4))
    losses["loss"].backward()
    torch.testing.assert_close(losses["loss"], losses["segmentation_loss"] + losses["depth_loss"])
    for name, parameter in [*model.named_parameters(), *companion.named_parameters()]:
        if name == "focal":
            continue
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
    assert float(losses["abs_rel_to_constant"]) > 0


def made_step(spec: str, **changed: Any) -> tuple[dict[str, Tensor], dict[str, Tensor], Companion]:
    """The losses, what the segmenter's weights get of them, and the companion."""
    model, made = segmenter().train(), recipe(spec)
    torch.manual_seed(1)
    companion = made.companion(model, BATCH.images)
    assert isinstance(companion, Companion)
    losses = made.step(model, BATCH, Context(**{"step": 300, "companion": companion, **changed}))
    losses["loss"].backward()
    return losses, gradients(model), companion


def test_without_clips_segmentation_is_alone() -> None:
    losses, found, companion = made_step("depth_multitask:clips=0,video=folder:nowhere")
    assert losses.keys() == {"loss", "train_accuracy"}
    assert not list(companion.parameters())
    model = segmenter().train()
    weights = companion.class_weights(BATCH.labels, 11)  # seen twice, the shares are the same
    weighted_cross_entropy(model(BATCH.images), BATCH.labels, weights).backward()
    torch.testing.assert_close(found, gradients(model))
    assert recipe("depth_multitask:clips=0").finish(model, companion) == {}


def test_controls_take_away_one_thing_each() -> None:
    """All see the same clips, so batch norm and segmentation are the same; only the second task differs."""
    base = f"depth_multitask:video={VIDEO},clips=1,jitter=0,task="
    made = {task: made_step(base + task) for task in ("depth", "picture", "none")}
    segmentation = {float(losses["segmentation_loss"].detach()) for losses, _, _ in made.values()}
    assert len(segmentation) == 1
    assert made["none"][0].keys() == {"loss", "segmentation_loss", "train_accuracy"}
    assert float(made["picture"][0]["picture_loss"].detach()) > 0
    assert made["picture"][2].decoder.heads[0].out_channels == 3
    for task in ("depth", "picture"):
        assert any(not torch.equal(made[task][1][name], made["none"][1][name]) for name in made["none"][1])
    assert recipe(base + "picture").finish(segmenter().eval(), made["picture"][2].eval()) == {}


def test_shuffled_frames_are_of_other_clips() -> None:
    frames = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 3, 3, 2, 2)
    shuffled = strangers(frames)
    assert torch.equal(shuffled[:, 1], frames[:, 1])
    assert bool((shuffled[:, 0] != shuffled[:, 1]).all() and (shuffled[:, 2] != shuffled[:, 1]).all())
    losses, _, companion = made_step(f"depth_multitask:video={VIDEO},clips=1,task=shuffled")
    assert float(losses["depth_loss"].detach()) > 0
    made = recipe(f"depth_multitask:video={VIDEO},clips=1,task=shuffled,keep_depth=true")
    findings = made.finish(segmenter().eval(), companion.eval())
    assert findings["depth_learnt"] is False  # as it should be, so the run has not failed
    assert "failed" not in findings
    assert made.keep(companion) == {}
    with pytest.raises(UserError, match="one clip"):
        made_step(f"depth_multitask:video={VIDEO},clips=0.25,task=shuffled")


def test_a_picture_that_is_drawn_as_it_is_costs_nothing() -> None:
    picture = torch.rand(2, 3, 16, 24) * 0.9 + 0.05
    exact = picture.logit()
    assert float(picture_loss(picture, [exact])) < 1e-5
    assert float(picture_loss(picture, [exact, torch.zeros_like(exact)])) > 0.05


def test_noise_is_that_of_its_image_and_epoch() -> None:
    made = recipe("depth_multitask:clips=0,noise=0.1")
    noisy = made._noisy(BATCH, Context(seed=3))  # type: ignore[attr-defined]
    some = replace(BATCH, images=BATCH.images[2:3], labels=BATCH.labels[2:3], keys=BATCH.keys[2:3])
    assert torch.equal(made._noisy(some, Context(seed=3))[0], noisy[2])  # type: ignore[attr-defined]
    assert not torch.equal(made._noisy(BATCH, Context(seed=3, epoch=1)), noisy)  # type: ignore[attr-defined]
    deviations = (noisy - BATCH.images).flatten(1).std(1)
    assert float(deviations.min()) > 0
    assert float(deviations.max()) < 0.11


def test_steps_are_the_same_whenever_they_are_made() -> None:
    found = []
    for _ in range(2):
        model, made = segmenter().train(), DepthMultitask(VIDEO)
        torch.manual_seed(1)
        companion = made.companion(model, BATCH.images)
        found.append(made.step(model, BATCH, Context(step=300, companion=companion))["loss"])
    assert torch.equal(found[0], found[1])


def test_the_focal_length_is_learnt_where_nobody_knows_it(tmp_path: Path) -> None:
    for index in range(2):
        clip = load_clips("builtin:streets?n=2&size=32x64").read(index)
        for number, frame in enumerate(clip.frames):
            (tmp_path / str(index)).mkdir(exist_ok=True)
            picture = (frame * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(picture).save(tmp_path / str(index) / f"{number}.png")
    model = segmenter().train()
    made = DepthMultitask(f"folder:{tmp_path}")
    assert recipe(made.spec) == made
    companion = made.companion(model, BATCH.images)
    known = torch.eye(3)[None] * 5
    both = companion.cameras(torch.cat([known, torch.full((1, 3, 3), torch.nan)]), (32, 64))
    assert torch.equal(both[0], known[0])
    torch.testing.assert_close(both[1].detach(), torch.tensor([[51.2, 0, 31.5], [0, 51.2, 15.5], [0, 0, 1]]))
    losses = made.step(model, BATCH, Context(companion=companion))
    losses["loss"].backward()
    assert companion.focal.grad is not None
    assert bool((companion.focal.grad != 0).all())
    assert "abs_rel_to_constant" not in losses
    findings = made.finish(model.eval(), companion.eval())
    assert {"depth_learnt", "depth_warped_error", "depth_still_error"} <= findings.keys()


class Knowing(nn.Module):
    """Depth by heart."""

    def __init__(self, feed: Feed, factor: float) -> None:
        super().__init__()
        self.depths = [batch.depth for batch in feed.judged(8)]
        self.factor = factor

    def forward(self, features: Any) -> list[Tensor]:
        inverted = self.factor / torch.as_tensor(self.depths.pop(0)).clamp(max=1e3)
        return [torch.expm1(inverted - 1e-3).log()]  # what softplus makes of it is the inverse depth, up to a factor


def test_the_gate_opens_to_true_depth_and_not_to_a_constant_one() -> None:
    model, made = segmenter().eval(), DepthMultitask(VIDEO)
    companion = made.companion(model, BATCH.images).eval()
    companion.decoder = Knowing(companion.feed, 1.0)  # type: ignore[assignment]
    findings = made.finish(model, companion)
    assert findings["depth_learnt"] is True
    assert findings["depth_abs_rel"] < 0.05
    assert "failed" not in findings
    companion.decoder = Knowing(companion.feed, 0.0)  # type: ignore[assignment]
    companion.decoder.forward = lambda features: [torch.zeros(1, 16, 32)]  # type: ignore[method-assign]
    findings = made.finish(model, companion)
    assert findings["depth_learnt"] is False
    assert findings["depth_abs_rel"] == pytest.approx(findings["depth_constant_abs_rel"], abs=1e-3)
    assert "depth was not learnt" in findings["failed"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hardly trained, so that the gate stays shut."""
    folder = tmp_path_factory.mktemp("multitask")
    with pytest.raises(UserError, match="depth was not learnt"):
        train(
            segmenter(),
            DATA,
            DepthMultitask(VIDEO, keep_depth=True),
            out=folder,
            epochs=1,
            batch_size=2,
            optimizer="adamw",
            lr=1e-6,
            validation=0,
            quiet=True,
        )
    return folder


def test_a_failed_run_says_so_and_keeps_its_findings(trained: Path) -> None:
    findings = json.loads((trained / "vallum.json").read_text())["extra"]["training"]["findings"]
    assert findings["depth_learnt"] is False
    assert findings["depth_abs_rel"] > 0.5 * findings["depth_constant_abs_rel"]
    assert "failed" in findings
    modes = [(trained / name).stat().st_mode for name in ("companion.safetensors", "weights.safetensors")]
    assert modes[0] == modes[1]  # whoever may read the one may read the other


def test_the_depth_branch_that_was_kept_sees_what_it_saw(trained: Path, tmp_path: Path) -> None:
    """Against the depths that the training itself judged."""
    depth = load_depth(trained)
    clips = Feed(load_clips(VIDEO, size=(32, 64)), 0).judged(8)
    errors = [depth_errors(depth(video.frames[:, 1]), torch.as_tensor(video.depth)) for video in clips]
    findings = json.loads((trained / "vallum.json").read_text())["extra"]["training"]["findings"]
    assert errors[0]["abs_rel"] == pytest.approx(findings["depth_abs_rel"], abs=1e-3)
    logits, same = depth.with_logits(BATCH.images)
    assert torch.equal(logits, load_model(str(trained))(BATCH.images))
    assert torch.equal(same, depth(BATCH.images))
    assert depth.motion(BATCH.images[:2], BATCH.images[2:]).shape == (2, 4, 4)
    assert not any(p.requires_grad for p in depth.parameters())
    shutil.copytree(trained, tmp_path / "bare", ignore=shutil.ignore_patterns("companion*"))
    for other in (str(tmp_path / "bare"), "builtin:signs_resnet"):
        with pytest.raises(UserError, match="keeps no depth"):
            vallum.load_depth(other)


def test_an_average_of_the_weights_has_an_average_of_the_depth_branch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same recurrence as the model's; and what is saved is what was judged."""
    seen: list[Tensor] = []

    step = DepthMultitask.step

    def watched(self: DepthMultitask, model: Model, batch: Batch, context: Context) -> Losses:
        seen.append(context.companion.get_parameter("pose.body.0.weight").detach().clone())
        return step(self, model, batch, context)

    monkeypatch.setattr(DepthMultitask, "step", watched)
    how: dict[str, Any] = {"lr": 3e-3, "batch_size": 2, "validation": 0, "quiet": True, "epochs": 2}
    for name, average in (("plain", 0.0), ("average", 0.9)):
        made = DepthMultitask(VIDEO, keep_depth=True)
        with pytest.raises(UserError, match="depth was not learnt"):
            train(segmenter(), DATA, made, out=tmp_path / name, average=average, optimizer="adamw", **how)
    last, found = (
        read_weights(tmp_path / name / "companion.safetensors")["pose.body.0.weight"] for name in ("plain", "average")
    )
    assert len(seen) == 8  # four weight steps each
    weights = [*seen[:4], last]
    assert all(torch.equal(one, other) for one, other in zip(seen[:4], seen[4:], strict=True))
    expected = weights[0]
    for number, values in enumerate(weights[1:], 1):
        decay = min(0.9, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * values
    torch.testing.assert_close(found, expected)
    assert float((found - last).abs().max()) > 1e-4
    depth = load_depth(tmp_path / "average")
    clips = Feed(load_clips(VIDEO, size=(32, 64)), 0).judged(8)
    errors = [depth_errors(depth(video.frames[:, 1]), torch.as_tensor(video.depth)) for video in clips]
    findings = json.loads((tmp_path / "average" / "vallum.json").read_text())["extra"]["training"]["findings"]
    assert errors[0]["abs_rel"] == pytest.approx(findings["depth_abs_rel"], abs=1e-3)


def test_the_shipped_network_sees_depth() -> None:
    """Against exact depth of clips it has not seen, through the gate that its training had to pass."""
    video = load_clips("builtin:streets?split=test&n=6").batch(range(6))
    with torch.no_grad():
        found = load_depth("builtin:streets_segmenter_depth")(video.frames[:, 1])
    true = torch.as_tensor(video.depth)
    assert depth_errors(found, true)["abs_rel"] < LEARNT * constant_errors(true)["abs_rel"]


@pytest.mark.parametrize("name", [name for name in builtin_names() if name.startswith("streets")])
def test_the_shipped_segmenters_know_streets(name: str) -> None:
    data = load_data("builtin:streets?split=test&n=12")
    model, batch = load_model(f"builtin:{name}"), data.batch(range(12))
    assert model.classes == data.classes
    with torch.no_grad():
        right = model(batch.images).argmax(1) == batch.labels
    assert float(right.float().mean()) > 0.85
    said = json.loads((SHIPPED / name / "vallum.json").read_text())["extra"]["training"]
    assert recipe(said["recipe"]).spec == said["recipe"]
    assert said["findings"].get("depth_learnt", True)


def test_what_is_saved_is_an_ordinary_segmenter_of_the_same_cost(trained: Path) -> None:
    saved, fresh = load_model(str(trained)), segmenter()
    assert isinstance(saved, Wrapped)
    assert str(saved) == str(fresh)
    assert [(n, p.shape) for n, p in saved.state_dict().items()] == [
        (n, p.shape) for n, p in fresh.state_dict().items()
    ]
    costs = []
    for model in (saved, fresh):
        with FlopCounterMode(display=False) as counter:
            model(BATCH.images)
        costs.append(counter.get_total_flops())
        graph = torch.export.export(model.eval(), (BATCH.images,)).graph
        costs.append([(node.op, str(node.target)) for node in graph.nodes])
    assert costs[:2] == costs[2:]


def test_other_segmenters_with_an_encoder() -> None:
    torch.manual_seed(0)
    model = load_model("smp:Unet?encoder=tu-test_resnet", classes=DATA.classes).train()
    made = DepthMultitask(VIDEO)
    companion = made.companion(model, BATCH.images)
    assert isinstance(companion, Companion)
    losses = made.step(model, BATCH, Context(companion=companion))
    losses["loss"].backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if ".encoder." in n and "fc" not in n)
    assert copy.deepcopy(model)(BATCH.images).shape == (4, 11, 32, 64)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("depth_multitask:balance=1.5", "balance=1.5"),
        ("depth_multitask:scales=5", "scales=5"),
        ("depth_multitask:clips=-1", "clips=-1"),
        ("depth_multitask:smooth=-1", "smooth=-1"),
        ("depth_multitask:form=log", "one of normalised, sigmoid"),
        ("depth_multitask:task=flow", "one of depth, shuffled, picture, none"),
        ("depth_multitask:noise=-0.1", "noise=-0.1"),
    ],
)
def test_specs_that_make_no_sense(spec: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        recipe(spec)


def test_what_cannot_learn_depth() -> None:
    plain = Wrapped(nn.Conv2d(3, 4, 1), task="segment", classes=4)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"no encoder.*net:segmenter"):
        DepthMultitask(VIDEO).companion(plain, BATCH.images)
    with pytest.raises(UserError, match=r"is for segment.*to classify"):
        vallum.train(
            "net:resnet", (np.zeros((8, 3, 8, 8), np.float32), np.arange(8) % 2), DepthMultitask(VIDEO), out="x"
        )
