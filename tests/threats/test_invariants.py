"""What every registered threat promises, whatever it does. A new threat is tested here as soon as it is registered."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from threat_oracles import EasyPixels, Exact, ExactPixels
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.specs import parameters
from vallum.threats import THREATS, Strong, Threat
from vallum.threats import threat as make_threat
from vallum.threats.corruptions.base import Corruption
from vallum.threats.minimal import Minimal
from vallum.threats.norms import per_image
from vallum.threats.universal import Fitted

HERE = Path(__file__).parent / "threat_oracles.py"
# Specs for each name that cannot stand alone, or that has more than one way to be. Keep the steps few.
EXAMPLES = {
    "gaussian": ["gaussian:std=0.1", "gaussian:snr=10,seed=3"],
    "salt_pepper": ["salt_pepper:amount=0.3"],
    "uniform": ["uniform:width=0.1", "uniform:snr=15"],
    "speckle": ["speckle:std=0.2", "speckle:snr=15"],
    "equal_energy": ["equal_energy:of=(gaussian),snr=20", "equal_energy:of=(pgd:norm=2,steps=3),rms=0.05"],
    "pgd": [
        "pgd:eps=16/255,steps=3",
        "pgd:eps=0.6,norm=2,steps=3,restarts=2",
        "pgd:eps=2,norm=1,steps=3,loss=margin,early_stop=false",
        "pgd:eps=40,norm=0,steps=3,random_start=true,early_stop=false",
        "pgd:eps=16/255,steps=3,loss=margin,targeted=true",
        "pgd:eps=16/255,steps=3,loss=segpgd_cross_entropy",
        "pgd:eps=1,norm=2,steps=3,random_start=false,step_size=0.5,early_stop=false",
    ],
    "apgd": [
        "apgd:eps=16/255,steps=6",
        "apgd:eps=0.6,norm=2,steps=6,restarts=2,loss=dlr",
        "apgd:eps=2,norm=1,steps=10,loss=margin,early_stop=false",
        "apgd:eps=16/255,steps=6,loss=balanced_cross_entropy",
        "apgd:eps=16/255,steps=10,loss=margin,targeted=true,large_first=true",
    ],
    "apgd_targeted": [
        "apgd_targeted:eps=16/255,steps=4",
        "apgd_targeted:eps=0.6,norm=2,steps=4,classes=2,loss=margin,early_stop=false",
        "apgd_targeted:eps=2,norm=1,steps=10,classes=1,restarts=2,loss=cross_entropy",
    ],
    "fgsm": [
        "fgsm:eps=16/255",
        "fgsm:eps=0.6,norm=2,loss=masked_cross_entropy",
        "fgsm:eps=2,norm=1,loss=dlr",
        "fgsm:eps=40,norm=0,loss=margin,targeted=true",
    ],
    "momentum": [
        "momentum:eps=16/255,steps=3",
        "momentum:eps=0.6,norm=2,steps=3,loss=margin,decay=0.5",
        "momentum:eps=2,norm=1,steps=3,targeted=true,step_size=1",
        "momentum:eps=40,norm=0,steps=3",
    ],
    "square": [
        "square:eps=16/255,queries=12",
        "square:eps=3,norm=1,queries=12",
        "square:eps=0.6,norm=2,queries=12,early_stop=false",
        "square:eps=0.6,norm=2,queries=12,loss=cross_entropy,targeted=true,area=0.1",
    ],
    "strong": [
        "strong:eps=16/255,effort=0.01",
        "strong:eps=0.6,norm=2,effort=0.01",
        "strong:eps=2,norm=1,effort=0.01,precision=bfloat16",
        "strong:eps=16/255,effort=0.002,exhaustive=true",
    ],
    "padam": [
        "padam:eps=16/255,steps=3",
        "padam:eps=0.6,norm=2,steps=3,loss=margin,early_stop=false",
        "padam:eps=16/255,steps=3,loss=margin,targeted=true",
    ],
    "own": ["own:threat_oracles:one_step,eps=16/255"],
    "spsa": [
        "spsa:eps=16/255,steps=3,directions=5",
        "spsa:eps=0.6,norm=2,steps=3,directions=3,early_stop=false",
        "spsa:eps=16/255,steps=3,directions=130,loss=cross_entropy,targeted=true",
    ],
    "hop_skip_jump": [
        "hop_skip_jump:queries=90,directions=10",
        "hop_skip_jump:queries=120,directions=40,norm=inf",
        "hop_skip_jump:queries=90,eps=0.5,directions=10,targeted=true",
    ],
    "patch": [
        "patch:size=0.1,steps=3,position=random",
        "patch:size=0.05,steps=2,places=3,loss=cross_entropy",
        "patch:size=0.2,steps=2,position=centre,targeted=true,early_stop=false",
        "patch:size=0.3,steps=2,samples=2,position=random,shift=2,rotation=20,scale=1.2",
    ],
    "spatial": ["spatial:queries=13", "spatial:queries=5,search=random,border=mirror,early_stop=false"],
    "warp": ["warp:reach=1,steps=3", "warp:reach=0.6,steps=2,restarts=2,spacing=7,early_stop=false"],
    "transfer": [
        f"transfer:eps=16/255,steps=3,diversity=1,surrogates=({HERE}:Exact)",
        f"transfer:eps=0.6,norm=2,steps=3,diversity=1,translation=1,surrogates=({HERE}:Exact;{HERE}:Exact),targeted=true",
    ],
    "feature": [
        "feature:eps=16/255,steps=4",
        "feature:eps=0.6,norm=2,steps=4,restarts=2,early_stop=false",
        "feature:eps=2,norm=1,steps=10",
    ],
    "ddn": ["ddn:steps=6", "ddn:steps=6,targeted=true,first_radius=0.3"],
    "fmn": ["fmn:steps=6", "fmn:steps=6,norm=inf,targeted=true", "fmn:steps=6,norm=1", "fmn:steps=6,norm=0"],
    "sigma_zero": ["sigma_zero:steps=6", "sigma_zero:steps=6,targeted=true"],
    "random_search": [
        "random_search:eps=16/255,queries=8",
        "random_search:eps=0.6,norm=2,queries=8,early_stop=false",
        "random_search:eps=2,norm=1,queries=8,loss=cross_entropy,targeted=true",
    ],
}


# What is fitted is fitted first, quickly, to the classifier below; a saved perturbation is one that was.
FITTED = {
    "universal": ["universal:eps=16/255,steps=2,images=8,targets=1", "universal:eps=0.6,norm=2,steps=2,tile=8"],
    "universal_patch": ["universal_patch:share=0.1,steps=2,images=8,targets=1"],
    "universal_deepfool": ["universal_deepfool:eps=16/255,images=8,rounds=1"],
}
EXAMPLES |= FITTED | {
    "pattern": ["pattern:eps=16/255,form=signs", "pattern:eps=0.6,norm=2,form=low_frequency"],
    "perturbation": [f"perturbation:{Path(__file__).parent / 'ripple.safetensors'},eps=16/255"],
}


@functools.cache
def _fitted(spec: str) -> Threat:
    one = make_threat(spec)
    assert isinstance(one, Fitted)
    images = some_images(12)
    return one.fit(Exact(), (images, Exact()(images).argmax(1)))


def threat(spec: str | Threat) -> Threat:
    fits = isinstance(spec, str) and spec.partition(":")[0] in FITTED
    return _fitted(spec) if fits else make_threat(spec)


def examples(name: str) -> list[str]:
    if name in EXAMPLES:
        return EXAMPLES[name]
    made: Any = THREATS[name]
    if isinstance(made, type) and issubclass(made, Corruption):
        return [f"{name}:2.5"]
    try:
        threat(name)
    except UserError:
        return []
    return [name]


SPECS = [spec for name in THREATS for spec in examples(name)]
DRAW_NOTHING = {  # the seed changes nothing, for there is nothing random about them
    *("brightness", "contrast", "defocus_blur", "gaussian_blur", "jpeg_compression", "pixelate", "saturate"),
    *("zoom_blur", "clean", "fgsm", "momentum", "own", "perturbation"),  # FGSM and momentum as in the examples
    *("spatial:queries=13", "warp:reach=1,steps=3"),  # a grid, and a field that begins at nothing
}
every_threat = pytest.mark.parametrize("spec", SPECS, ids=[spec.replace(str(HERE), "") for spec in SPECS])
KEYS = [3, -8, 11, 0, 2**40, 7]


def test_every_threat_has_an_example() -> None:
    lacking = sorted(set(THREATS) - {spec.partition(":")[0] for spec in SPECS})
    assert not lacking, f"add a spec to EXAMPLES in {__file__} for: {', '.join(lacking)}"
    assert set(EXAMPLES) <= set(THREATS), "EXAMPLES names threats that are not registered"


def some_images(n: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    images = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float32)
    return torch.where(images < 0.1, 0.0, torch.where(images > 0.9, 1.0, images)).to(dtype)


def labels_for(one: Threat, model: Any, images: Tensor) -> Tensor:
    """What the images are, or what they shall become."""
    says = model(images).argmax(1)
    return (says + 1) % 3 if one.targeted else says


def check_inside(one: Threat, images: Tensor, found: Tensor) -> None:
    assert bool(((found >= 0) & (found <= 1)).all())
    if one.budget is None:
        return
    norm, eps = one.budget.norm, per_image(one.budget.eps, images).double()
    # A pixel in [0, 1] can be placed to half a unit in the last place of 1, and so can each end of the way to it.
    place = torch.finfo(images.dtype).eps
    rounding = place * norm.length(torch.ones_like(images))
    length = norm.length(found.double() - images.double())
    assert bool((length <= eps * (1 + 2 * place) + rounding).all()), (length - eps).tolist()


@every_threat
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_images_come_back_as_images_and_inside_the_ball(spec: str, dtype: torch.dtype) -> None:
    one, model, images = threat(spec), Exact(), some_images(dtype=dtype)
    labels = labels_for(one, model, images)
    before = images.clone(), labels.clone()
    found = one(model, images, labels, KEYS)
    assert (found.shape, found.dtype, found.device) == (images.shape, images.dtype, images.device)
    assert not found.requires_grad
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
    if dtype is not torch.bfloat16:  # whose own rounding of eps is coarser than any tolerance
        check_inside(one, images, found)


@every_threat
def test_images_that_want_a_gradient_are_welcome_and_get_none(spec: str) -> None:
    one, model, images = threat(spec), Exact(), some_images()
    labels = labels_for(one, model, images)
    wanted = one(model, images, labels, KEYS)
    tracked = images.clone().requires_grad_()
    found = one(model, tracked, labels, KEYS)
    assert torch.equal(found.detach(), wanted)
    assert tracked.grad is None


@every_threat
@pytest.mark.parametrize("n", [0, 1])
def test_no_image_and_one_image(spec: str, n: int) -> None:
    one, model, images = threat(spec), Exact(2), some_images(n)  # two classes, the fewest there are
    found = one(model, images, torch.zeros(n, dtype=torch.long))
    assert found.shape == images.shape
    check_inside(one, images, found)


@every_threat
def test_an_image_meets_the_same_whatever_its_batch(spec: str) -> None:
    one, model, images = threat(spec), Exact(), some_images()
    labels = labels_for(one, model, images)
    together = one(model, images, labels, KEYS)
    for rows in ([5, 4, 3, 2, 1, 0], [2, 0], [5, 1, 3], *([i] for i in range(6))):
        found = one(model, images[rows], labels[rows], [KEYS[i] for i in rows])
        assert torch.equal(found, together[rows]), rows
    assert torch.equal(one(model, images, labels, torch.tensor(KEYS)), together)


@every_threat
def test_without_keys_the_place_in_the_batch_is_the_key(spec: str) -> None:
    one, model, images = threat(spec), Exact(), some_images()
    labels = labels_for(one, model, images)
    assert torch.equal(one(model, images, labels), one(model, images, labels, range(6)))


@every_threat
def test_the_spec_makes_the_threat_again(spec: str) -> None:
    one = threat(spec)
    assert threat(one.spec) == one
    assert threat(one) is one


class Net(nn.Module):
    """Everything that could be disturbed: batch norm, dropout, a frozen parameter, gradients in progress."""

    calls = 0  # of a copy too: an attack may search on one

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Conv2d(4, 3, 1)
        self.head.weight.requires_grad_(False)
        self.features[0].weight.grad = torch.ones_like(self.features[0].weight)
        self.eval()
        self.features[3].train()  # a mixed mode, as somebody may have set it
        self.features[3].p = 0.0
        self.fails_at = 0

    def forward(self, images: Tensor) -> Tensor:
        Net.calls += 1
        if Net.calls == self.fails_at:
            raise KeyboardInterrupt
        return self.head(self.features(images)).mean((2, 3))


def state_of(model: nn.Module) -> dict[str, Any]:
    return {
        "tensors": {name: value.clone() for name, value in model.state_dict().items()},
        "wants": [p.requires_grad for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "mode": [module.training for module in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        "enabled": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def for_masks(spec: str) -> Threat:
    """A surrogate must be what the model is."""
    return threat(spec.replace(f"{HERE}:Exact", f"{HERE}:exact_pixels"))


def check_same(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@every_threat
@pytest.mark.parametrize("fails_at", [0, 1, 3])
def test_the_model_is_left_as_it_was_even_when_interrupted(spec: str, fails_at: int) -> None:
    one, model, images = threat(spec), Net(), some_images()
    labels = labels_for(one, model, images)
    before = state_of(model)
    Net.calls, model.fails_at = 0, fails_at
    interrupted = False
    try:
        one(model, images, labels, KEYS)
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted == (0 < fails_at <= model.calls)
    check_same(state_of(model), before)


@every_threat
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_gradient_mode_changes_nothing(
    spec: str, context: Callable[[], AbstractContextManager[None]]
) -> None:
    one, model, images = threat(spec), Net(), some_images()
    labels = labels_for(one, model, images)
    wanted = one(model, images, labels, KEYS)
    with context():
        mode = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = one(model, images, labels, KEYS)
        made_inside = one(model, images.clone(), labels.clone(), KEYS)
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == mode
    assert torch.equal(found, wanted)
    assert torch.equal(made_inside, wanted)


def seeded(spec: str, seed: int) -> Threat:
    name, _, rest = spec.partition(":")
    kept = [part for part in rest.split(",") if part and not part.startswith("seed=")]
    return threat(f"{name}:{','.join([*kept, f'seed={seed}'])}")


@every_threat
def test_the_seed_is_what_changes_what_is_drawn(spec: str) -> None:
    if "seed" not in {p.name for p in parameters(type(threat(spec)))}:
        pytest.skip("draws nothing")
    one, other, again = seeded(spec, 0), seeded(spec, 1), seeded(spec, 0)
    draws = not {spec, spec.partition(":")[0]} & DRAW_NOTHING and "random_start=false" not in spec
    model, images = Exact(), some_images()
    labels = labels_for(one, model, images)
    found = one(model, images, labels, KEYS)
    assert torch.equal(again(model, images, labels, KEYS), found)
    assert torch.equal(other(model, images, labels, KEYS), found) != draws


@pytest.fixture
def masks() -> Tensor:
    """Labels of pixels, in which a row, a corner and a whole image are ignored."""
    labels = ExactPixels()(some_images()).argmax(1)  # (N, H, W)
    labels[:, 5] = IGNORE
    labels[2, :8, :8] = IGNORE
    labels[4] = IGNORE
    return labels


ATTACKS = [spec for spec in SPECS if THREATS.parse(spec).kind == "attack"]


@pytest.mark.parametrize("spec", ATTACKS, ids=[spec.replace(str(HERE), "") for spec in ATTACKS])
def test_an_attack_on_a_segmenter_makes_pixels_wrong_or_refuses(spec: str) -> None:
    one, model = make_threat(spec.replace(f"{HERE}:Exact", f"{HERE}:easy_pixels")), EasyPixels()
    images = 0.505 + 0.01 * some_images()
    masks = model(images).argmax(1)
    labels = 1 - masks if one.targeted else masks
    if one.refuses_masks:
        with pytest.raises(UserError, match=r"against a segmenter.* take "):
            one.fit(model, (images, masks)) if isinstance(one, Fitted) else one(model, images, labels, KEYS)
        return
    if isinstance(one, Fitted):
        one = one.fit(model, (images, masks))
    if isinstance(one, Minimal):
        one = dataclasses.replace(one, steps=60)
    if isinstance(one, Strong):
        one = dataclasses.replace(one, effort=0.1)
    found, truth = one.with_labels(model, images, labels, KEYS)
    truth = 1 - truth.where(truth != IGNORE, 1 - IGNORE) if one.targeted else truth
    wrong = ((model(found).argmax(1) != truth) & (truth != IGNORE)).flatten(1).sum(1)
    assert int(wrong.sum()) > 0
    if isinstance(one, Minimal):  # no radius keeps it from all that it is after
        assert bool((wrong >= 0.99 * masks[0].numel()).all()), wrong


@every_threat
def test_segmentation(spec: str, masks: Tensor) -> None:
    one, model, images = for_masks(spec), ExactPixels(), some_images()
    if one.refuses_masks:
        pytest.skip("refuses masks")
    labels = torch.where(masks == IGNORE, IGNORE, (masks + 1) % 3) if one.targeted else masks
    before = labels.clone()
    found = one(model, images, labels, KEYS)
    assert found.shape == images.shape
    assert torch.equal(labels, before)
    check_inside(one, images, found)
    for rows in ([3, 1], [0]):
        assert torch.equal(one(model, images[rows], labels[rows], [KEYS[i] for i in rows]), found[rows])


@every_threat
def test_what_is_in_an_ignored_pixel_matters_to_no_other(spec: str) -> None:
    one, images = for_masks(spec), some_images()
    if one.kind not in ("attack", "clean") and "pgd" not in spec:
        pytest.skip("looks at no label")
    if one.refuses_masks:
        pytest.skip("refuses masks")
    if one.moves_labels and one.budget is None:
        pytest.skip("what is ignored moves with the image")
    ignored = torch.zeros(16, 16, dtype=torch.bool)  # the same in every image, so that the model need not know which
    ignored[5], ignored[8:, :4] = True, True
    labels = labels_for(one, ExactPixels(), images).masked_fill(ignored, IGNORE)

    class Loud(ExactPixels):
        """Says with all its might something else of the pixels that are ignored."""

        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return torch.where(ignored, -100 * logits.square() * images.mean(1, keepdim=True), logits)

    quiet, loud = (one(model, images, labels, KEYS) for model in (ExactPixels(), Loud()))
    assert torch.equal(quiet, loud)


class Steep(nn.Module):
    """What a camera's gamma curve does to a slope: at a black pixel it is infinite, behind a dead unit no number."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.pow(0.45))


def with_black(images: Tensor) -> Tensor:
    images = images.clone()
    images[:, :, 3:5] = 0  # rows
    images[:, 0, 0, ::3] = 0  # and some of what `Exact` looks at
    return images


@every_threat
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_an_infinite_slope_makes_images_and_no_nan(spec: str, dtype: torch.dtype) -> None:
    one, model, images = threat(spec), Steep(Exact()), with_black(some_images(dtype=dtype))
    found = one(model, images, labels_for(one, model, images), KEYS)
    assert bool(model(found).isfinite().all())
    check_inside(one, images, found)
    one, segmenter = for_masks(spec), Steep(ExactPixels())
    if not one.refuses_masks:
        found = one(segmenter, images, labels_for(one, segmenter, images), KEYS)
        assert bool(segmenter(found).isfinite().all())
        check_inside(one, images, found)


class Holes(Exact):
    """Has no answer to an image whose first pixels are, in sum, a little darker or brighter than those of `images`."""

    def __init__(self, images: Tensor, filled_with: float) -> None:
        super().__init__()
        self.middle, self.filled_with = images[:, 0, 0, :4].double().sum(1).sort()[0], filled_with

    def forward(self, images: Tensor) -> Tensor:
        here = images[:, 0, 0, :4].double().sum(1)
        away = (here[:, None] - self.middle).abs().amin(1) > 0.02
        return super().forward(images).masked_fill(away[:, None], self.filled_with)


CHOOSES_NOTHING = {  # of the points it sees; nor does a jittered patch
    *("fgsm", "momentum", "transfer", "own", "pattern", "perturbation", *FITTED),
}


@pytest.mark.parametrize("spec", ATTACKS, ids=[spec.replace(str(HERE), "") for spec in ATTACKS])
@pytest.mark.parametrize("filled_with", [torch.nan, torch.inf], ids=str)
def test_where_the_model_has_no_answer_nothing_has_fallen(spec: str, filled_with: float) -> None:
    if spec.startswith("equal_energy"):
        pytest.skip("scales what is chosen")
    one, images = threat(spec), some_images()
    model = Holes(images, filled_with)
    found = one(model, images, labels_for(one, model, images), KEYS)
    check_inside(one, images, found)
    if spec.partition(":")[0] not in CHOOSES_NOTHING and "shift=2" not in spec:
        assert bool(model(found).isfinite().all())


FOLLOWS = [spec for spec in ATTACKS if threat(spec).needs_gradient and not isinstance(threat(spec), Fitted)]


@pytest.mark.parametrize("spec", FOLLOWS, ids=[spec.replace(str(HERE), "") for spec in FOLLOWS])
def test_a_model_without_a_gradient_is_told_what_to_take_instead(spec: str) -> None:
    one, images = threat(spec), some_images()
    if spec.startswith("transfer"):
        pytest.skip("follows that of its surrogates")

    def answers(images: Tensor) -> Tensor:
        return Exact()(images.detach())

    with pytest.raises(UserError, match=r"no gradient .* random_search"):
        one(answers, images, labels_for(one, answers, images), KEYS)


LOOKS = [spec for spec in ATTACKS if threat(spec).looks]


@pytest.mark.parametrize("spec", LOOKS, ids=[spec.replace(str(HERE), "") for spec in LOOKS])
def test_labels_and_models_that_are_none_are_refused_with_a_remedy(spec: str) -> None:
    one, model, images = threat(spec), Exact(), some_images()
    labels = labels_for(one, model, images)
    for wrong, remedy in (
        (labels[:, None], r"labels\[:, 0\]"),
        (labels[:4], "one for each image"),
        (labels.float(), r"labels\.long"),
        (labels.int(), r"labels\.long"),
        (labels - 3, "numbered from 0"),
        (labels.tolist(), "as_tensor"),
    ):
        with pytest.raises(UserError, match=remedy):
            one(model, images, wrong, KEYS)
        with pytest.raises(UserError, match=remedy):
            one.with_labels(model, images, wrong, KEYS)
    if spec.partition(":")[0] in ("own", "transfer"):
        return  # what they look at is not for us to say
    with pytest.raises(UserError, match=r"label 9.*3 classes"):
        one(model, images, torch.full_like(labels, 9), KEYS)
    for returned, remedy in (
        (lambda images: {"scores": model(images)}, r"model\(images\)\['scores'\]"),
        (lambda images: (model(images), None), r"model\(images\)\[0\]"),
        (lambda images: ExactPixels()(images), r"\(N, K\)"),
    ):
        with pytest.raises(UserError, match=remedy):
            one(returned, images, labels, KEYS)


@pytest.mark.parametrize("spec", LOOKS, ids=[spec.replace(str(HERE), "") for spec in LOOKS])
def test_a_model_in_training_mode_learns_nothing_from_an_attack(spec: str) -> None:
    one, model, images = threat(spec), Net().train(), some_images()
    labels = labels_for(one, model, images)
    before = state_of(model)
    with pytest.warns(UserWarning, match=r"training mode.*model\.eval") as said:
        one(model, images, labels, KEYS)
    assert said[0].filename == __file__
    check_same(state_of(model), before)


def test_pgd_leaves_ignored_pixels_alone(masks: Tensor) -> None:
    images = some_images()
    found = threat("pgd:eps=8/255,steps=3,random_start=false,early_stop=false")(ExactPixels(), images, masks)
    moved = (found != images).any(1)
    assert not bool(moved[masks == IGNORE].any())
    assert bool(moved[masks != IGNORE].any())


@every_threat
def test_a_model_may_be_any_function(spec: str) -> None:
    one, model, images = threat(spec), Exact(), some_images()
    labels = labels_for(one, model, images)
    assert torch.equal(one(model.forward, images, labels, KEYS), one(model, images, labels, KEYS))


@every_threat
def test_what_is_no_image_is_refused_with_a_remedy(spec: str) -> None:
    one, model, images = threat(spec), Exact(), some_images()
    labels = labels_for(one, model, images)
    for wrong, remedy in (
        (images * 255, "divide them by 255"),
        ((images * 255).to(torch.uint8), r"images\.float\(\) / 255"),
        (images * 4 - 2, "normalisation"),
        (images.masked_fill(images == 0, torch.nan), "NaN"),
        (images[0], r"images\[None\]"),
        (images.numpy(), "torch.as_tensor"),
    ):
        with pytest.raises(UserError, match=remedy):
            one(model, wrong, labels, KEYS)
        with pytest.raises(UserError, match=remedy):
            one.with_labels(model, wrong, labels, KEYS)
