"""Segmentation and depth at once, after Klingner, Bär and Fingscheidt 2020 (arXiv 2004.11072)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.data import ClipBatch, load_clips
from vallum.defences.attack_mode import attack_mode
from vallum.defences.depth_multitask.feed import Feed
from vallum.defences.depth_multitask.geometry import flipped, warp
from vallum.defences.depth_multitask.judging import constant_errors, depth_errors
from vallum.defences.depth_multitask.networks import DepthDecoder, PoseNet, depth_of, inverse_depth
from vallum.defences.depth_multitask.photometric import Target, best_explained, difference, smoothness
from vallum.defences.depth_multitask.sharing import as_input, beside, encoder_of, features_of
from vallum.defences.plain import accuracy
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe
from vallum.errors import UserError
from vallum.images import IGNORE, Batch, Draws, Task
from vallum.models.model import Model
from vallum.specs import parameter

LEARNT = 0.6  # of the constant depth's abs rel: what is above has not learnt depth
EXPLAINED = 0.8  # of the error of frames as they are, where no true depth is known
MEMORY = 2e9  # bytes of clips that are kept


@RECIPES.register("depth_multitask")
@dataclass(frozen=True)
class DepthMultitask(Recipe):
    """A segmenter whose encoder learns depth, too, from unlabelled video; afterwards the depth branch falls away.

    `balance` is the paper's lambda: the encoder follows `balance` of the segmentation's gradient and the rest of the
    depth's; 1 teaches it no depth. Run on clips without intrinsics, the focal length is learnt as well.

    >>> DepthMultitask(video="folder:clips", balance=0.8).spec
    'depth_multitask:video=folder:clips,balance=0.8'
    """

    video: str = parameter(
        "unlabelled clips: folder:PATH, kitti:PATH, cityscapes:PATH, builtin:streets", "builtin:streets"
    )
    balance: float = parameter("share of the segmentation in the encoder's gradient, the paper's lambda", 0.5)
    clips: float = parameter("clips for each labelled image of a step", 0.5)
    form: Literal["normalised", "sigmoid"] = parameter("of depth: of mean 0.1, or the published one", "normalised")
    scales: int = parameter("of the encoder's sizes, from the finest, at which depth is learnt", 2)
    smooth: float = parameter("weight of smoothness", 1e-3)
    still_from: int = parameter("step from which pixels that move along are left out", 200)
    class_weights: bool = parameter("rare classes weigh more, by 1 / ln(1.1 + share)", True)
    flip: bool = parameter("mirror half of the clips", True)
    jitter: float = parameter("random change of the clips' colours before the networks see them", 0.2)
    keep_depth: bool = parameter("save the depth branch beside the model", False)
    trains: ClassVar[tuple[Task, ...]] = (Task.SEGMENT,)

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise UserError(f"balance={self.balance:g}", "from 0, depth alone, to 1, segmentation alone")
        if not 1 <= self.scales <= 4:
            raise UserError(f"scales={self.scales}", "1 to 4")
        if self.clips <= 0:
            raise UserError(f"clips={self.clips:g}", "a positive number for each labelled image")
        for name in ("smooth", "still_from", "jitter"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name):g}", "it is not negative")

    def companion(self, model: Model, images: Tensor) -> Companion:
        if model.task is not Task.SEGMENT:
            raise UserError(
                f"the model's task is {model.task}", "depth is learnt beside segmentation", "take a segmenter"
            )
        return Companion(self, model, images)

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        companion = context.companion
        assert isinstance(companion, Companion)
        count = max(1, round(self.clips * len(batch)))
        video = companion.feed.of_step(context.seed, context.step, context.offset, count).to(batch.images.device)
        frames, intrinsics, shown, mirrored = self._augmented(companion, video, context)

        with beside(encoder_of(model), as_input(model, shown[:, 1]), self.balance) as seen:
            logits = model(batch.images)
        weights = companion.class_weights(batch.labels, len(model.classes or ()) or logits.shape[1])
        segmentation = weighted_cross_entropy(logits, batch.labels, weights if self.class_weights else None)

        maps = companion.decoder(seen.features)
        motions = companion.pose.both(shown)
        depth = self._depth_loss(frames, maps, motions, intrinsics, context.step >= self.still_from)
        losses = {"loss": segmentation + depth, "segmentation_loss": segmentation, "depth_loss": depth}
        losses["train_accuracy"] = accuracy(logits, batch.labels)
        if video.depth is not None:
            with torch.no_grad():
                found = depth_of(at_size(inverse_depth(maps[0], self.form), shown.shape[-2:]))
                true = torch.where(mirrored[:, None, None], video.depth.flip(-1), video.depth)
                error = depth_errors(found, true)["abs_rel"] / constant_errors(true)["abs_rel"]
            losses["abs_rel_to_constant"] = torch.tensor(error, device=depth.device)
        return losses

    def _depth_loss(
        self, frames: Tensor, maps: Sequence[Tensor], motions: Sequence[Tensor], intrinsics: Tensor, masked: bool
    ) -> Tensor:
        """The mean over the scales; every scale is judged at full size, as holes in plain areas else seem deep."""
        before, middle, after = frames.unbind(1)
        target, size = Target.of(middle), middle.shape[-2:]
        sources = ((before, motions[0]), (after, motions[1]))
        still = None
        if masked:
            still = torch.minimum(difference(before, target), difference(after, target))
            still = still + 1e-5 * torch.rand_like(still)  # where all is equal, nothing is learnt
        total: Tensor = torch.zeros((), device=frames.device)
        for scale, found in enumerate(maps):
            inverted = inverse_depth(found, self.form)
            depth = depth_of(at_size(inverted, size))
            warped = [warp(source, depth, motion, intrinsics)[0] for source, motion in sources]
            error, _ = best_explained(target, warped, still)
            image = F.adaptive_avg_pool2d(middle, (found.shape[-2], found.shape[-1]))
            total = total + error.mean() + self.smooth / 2**scale * smoothness(inverted, image).mean()
        return total / len(maps)

    def _augmented(self, companion: Companion, video: ClipBatch, context: Context) -> tuple[Tensor, ...]:
        """Frames for the loss, their cameras, the frames as the networks see them, and which are mirrored."""
        draws = Draws(context.seed, video.keys, f"step {context.step}/clips").uniform(4, purpose="augment")
        chance = draws.to(video.frames.device)
        frames, intrinsics = video.frames, companion.cameras(video.intrinsics, video.frames.shape[-2:])
        mirrored = chance[:, 0] < (0.5 if self.flip else 0.0)
        frames = torch.where(mirrored.view(-1, 1, 1, 1, 1), frames.flip(-1), frames)
        intrinsics = torch.where(mirrored.view(-1, 1, 1), flipped(intrinsics, frames.shape[-1]), intrinsics)
        if not self.jitter:
            return frames, intrinsics, frames, mirrored
        bright, contrast, colour = (1 + (chance[:, 1:] * 2 - 1) * self.jitter).view(-1, 3, 1, 1, 1, 1).unbind(1)
        grey = frames.mean(2, keepdim=True)
        shown = (grey + (frames - grey) * colour - 0.5) * contrast + 0.5
        return frames, intrinsics, (shown * bright).clamp(0, 1), mirrored

    @torch.no_grad()
    def finish(self, model: Model, companion: nn.Module) -> dict[str, Any]:
        """Depth on the clips that were held out, beside a constant depth's, or beside frames as they are."""
        assert isinstance(companion, Companion)
        rows: list[dict[str, float]] = []
        for video in companion.feed.judged(8):
            video = video.to(model.device)
            frames, size = video.frames, video.frames.shape[-2:]
            middle = as_input(model, frames[:, 1])
            features = features_of(encoder_of(model)(middle), middle)
            depth = depth_of(at_size(inverse_depth(companion.decoder(features)[0], self.form), size))
            cameras = companion.cameras(video.intrinsics, size)
            warped = [
                warp(frames[:, place], depth, motion, cameras)[0]
                for place, motion in zip((0, 2), companion.pose.both(frames), strict=True)
            ]
            explained, _ = best_explained(Target.of(frames[:, 1]), warped, None)
            still = torch.stack([difference(frames[:, place], frames[:, 1]) for place in (0, 2)]).amin(0)
            row = {"warped_error": float(explained.mean()), "still_error": float(still.mean())}
            if video.depth is not None:
                row |= depth_errors(depth, video.depth)
                row["constant_abs_rel"] = constant_errors(video.depth)["abs_rel"]
            rows += [row] * len(video)
        return verdict({name: sum(row[name] for row in rows) / len(rows) for name in rows[0]})

    def keep(self, companion: nn.Module) -> dict[str, Tensor]:
        if not self.keep_depth:
            return {}
        kept = ("decoder.", "pose.", "focal")
        return {name: value for name, value in companion.state_dict().items() if name.startswith(kept)}


class Companion(nn.Module):
    """What is trained beside the segmenter and dropped afterwards."""

    counts: Tensor

    def __init__(self, recipe: DepthMultitask, model: Model, images: Tensor) -> None:
        super().__init__()
        with torch.no_grad(), attack_mode(model, "eval"):  # in which nothing is kept of what is looked at
            given = as_input(model, images[:1])
            widths = [feature.shape[1] for feature in features_of(encoder_of(model)(given), given)]
        self.decoder = DepthDecoder(widths, recipe.scales)
        self.pose = PoseNet(images.shape[1])
        self.focal = nn.Parameter(torch.zeros(2))  # logarithm of the focal lengths, in 0.8 of the width
        self.register_buffer("counts", torch.zeros(256))
        size = None if "size=" in recipe.video else tuple(images.shape[-2:])
        self.feed = Feed(load_clips(recipe.video, size=size), MEMORY)

    def cameras(self, known: Tensor, size: Sequence[int]) -> Tensor:
        """Intrinsics (N, 3, 3); where they are not known, those that are being learnt."""
        height, width = size
        learnt = torch.eye(3, device=known.device)
        focal = self.focal.exp() * 0.8 * width
        middle = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=known.device)
        learnt = torch.cat([torch.cat([torch.diag(focal), middle[:, None]], 1), learnt[2:]])
        return torch.where(known.isnan(), learnt, known)

    def class_weights(self, labels: Tensor, classes: int) -> Tensor:
        """1 / ln(1.1 + share), from all the labels seen so far."""
        with torch.no_grad():
            self.counts += torch.bincount(labels[labels != IGNORE], minlength=256).float()
            share = self.counts[:classes] / self.counts.sum().clamp_min(1)
            return 1 / (1.1 + share).log()


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over images of the weighted mean over their pixels that belong to a class."""
    valid = labels != IGNORE
    target = labels.where(valid, 0)
    values = F.cross_entropy(logits.float(), target, reduction="none")
    weight = valid.float() if weights is None else weights[target] * valid
    return ((values * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1e-6)).mean()


def at_size(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (N, h, w) at another size."""
    return F.interpolate(maps[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]


def verdict(figures: dict[str, float]) -> dict[str, Any]:
    """The figures, and whether depth was learnt: against a constant depth, or else against frames as they are.

    >>> verdict({"abs_rel": 0.2, "constant_abs_rel": 0.5, "warped_error": 0.1, "still_error": 0.2})["depth_learnt"]
    True
    """
    found: dict[str, Any] = {f"depth_{name}": round(value, 4) for name, value in figures.items()}
    if "abs_rel" in figures:
        name, limit, value, base = "abs rel", LEARNT, figures["abs_rel"], figures["constant_abs_rel"]
        beside = "a constant depth's"
    else:
        name, limit, value, base = "error of warped frames", EXPLAINED, figures["warped_error"], figures["still_error"]
        beside = "that of frames as they are"
    found["depth_learnt"] = value < limit * base
    if not found["depth_learnt"]:
        found["failed"] = (
            f"depth was not learnt: its {name} is {value:.3f}, not below {limit:g} of {beside}, {base:.3f}"
        )
    return found
