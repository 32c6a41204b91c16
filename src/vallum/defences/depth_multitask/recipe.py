"""Segmentation and depth at once, after Klingner, Bär and Fingscheidt 2020 (arXiv 2004.11072)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.data import ClipBatch, load_clips
from vallum.defences.class_weights import HELP, weighted_cross_entropy
from vallum.defences.depth_multitask.companion import Companion
from vallum.defences.depth_multitask.geometry import flipped, warp
from vallum.defences.depth_multitask.judging import constant_errors, depth_errors
from vallum.defences.depth_multitask.networks import depth_of, inverse_depth
from vallum.defences.depth_multitask.photometric import Target, best_explained, difference
from vallum.defences.depth_multitask.second_task import at_size, depth_loss, picture_loss, strangers
from vallum.defences.depth_multitask.sharing import as_input, beside, encoder_of, features_of
from vallum.defences.plain import accuracy
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe
from vallum.errors import UserError
from vallum.images import Batch, Draws, Task
from vallum.models.model import Model
from vallum.specs import parameter

LEARNT = 0.6  # of the constant depth's abs rel: what is above has not learnt depth
EXPLAINED = 0.8  # of the error of frames as they are, where no true depth is known


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
    clips: float = parameter("clips for each labelled image of a step; 0: none, segmentation alone", 0.5)
    form: Literal["normalised", "sigmoid"] = parameter("of depth: of mean 0.1, or the published one", "normalised")
    scales: int = parameter("of the encoder's sizes, from the finest, at which depth is learnt", 2)
    smooth: float = parameter("weight of smoothness", 1e-3)
    still_from: int = parameter("step from which pixels that move along are left out", 200)
    class_weights: bool = parameter(HELP, True)
    flip: bool = parameter("mirror half of the clips", True)
    jitter: float = parameter("random change of the clips' colours before the networks see them", 0.2)
    keep_depth: bool = parameter("save the depth branch beside the model", False)
    task: Literal["depth", "shuffled", "picture", "none"] = parameter(
        "beside segmentation: depth; to compare with: depth from frames of different clips, the picture itself, none",
        "depth",
    )
    noise: float = parameter("largest deviation of Gaussian noise on the labelled images, to compare with", 0.0)
    trains: ClassVar[tuple[Task, ...]] = (Task.SEGMENT,)

    def __post_init__(self) -> None:
        if not 0 <= self.balance <= 1:
            raise UserError(f"balance={self.balance:g}", "from 0, depth alone, to 1, segmentation alone")
        if not 1 <= self.scales <= 4:
            raise UserError(f"scales={self.scales}", "1 to 4")
        for name in ("clips", "smooth", "still_from", "jitter", "noise"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name):g}", "it is not negative")

    def companion(self, model: Model, images: Tensor) -> Companion:
        if model.task is not Task.SEGMENT:
            raise UserError(
                f"the model's task is {model.task}", "depth is learnt beside segmentation", "take a segmenter"
            )
        size = None if "size=" in self.video else (images.shape[-2], images.shape[-1])
        clips = load_clips(self.video, size=size) if self.clips else None
        return Companion(model, images, clips, self.scales, images.shape[1] if self.task == "picture" else 1)

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        companion = context.companion
        assert isinstance(companion, Companion)
        if self.noise:
            batch = replace(batch, images=self._noisy(batch, context))
        if companion.feed is None:
            logits = model(batch.images)
            segmentation = self._segmentation(model, companion, logits, batch.labels)
            return {"loss": segmentation, "train_accuracy": accuracy(logits, batch.labels)}
        count = max(1, round(self.clips * len(batch)))
        if self.task == "shuffled" and count < 2:
            raise UserError("a step with one clip has none to shuffle it with", remedy="raise clips= or the batch size")
        video = companion.feed.of_step(context.seed, context.step, context.offset, count).to(batch.images.device)
        if self.task == "shuffled":
            video = replace(video, frames=strangers(video.frames))
        frames, intrinsics, shown, mirrored = self._augmented(companion, video, context)

        with beside(encoder_of(model), as_input(model, shown[:, 1]), self.balance) as seen:
            logits = model(batch.images)
        segmentation = self._segmentation(model, companion, logits, batch.labels)
        losses = {"loss": segmentation, "segmentation_loss": segmentation}
        losses["train_accuracy"] = accuracy(logits, batch.labels)
        if self.task == "none":  # only that batch norm saw both
            return losses
        maps = companion.decoder(seen.features)
        if self.task == "picture":
            second = picture_loss(shown[:, 1], maps)
            return losses | {"loss": segmentation + second, "picture_loss": second}
        motions = companion.pose.both(shown)
        masked = context.step >= self.still_from
        second = depth_loss(frames, maps, motions, intrinsics, self.form, self.smooth, masked)
        losses |= {"loss": segmentation + second, "depth_loss": second}
        if video.depth is not None:
            with torch.no_grad():
                found = depth_of(at_size(inverse_depth(maps[0], self.form), shown.shape[-2:]))
                true = torch.where(mirrored[:, None, None], video.depth.flip(-1), video.depth)
                found, true = found[:, ::4, ::4], true[:, ::4, ::4]  # enough to watch it by
                error = depth_errors(found, true)["abs_rel"] / constant_errors(true)["abs_rel"]
            losses["abs_rel_to_constant"] = torch.tensor(error, device=second.device)
        return losses

    def _segmentation(self, model: Model, companion: Companion, logits: Tensor, labels: Tensor) -> Tensor:
        weights = companion.class_weights(labels, len(model.classes or ()) or logits.shape[1])
        return weighted_cross_entropy(logits, labels, weights if self.class_weights else None)

    def _noisy(self, batch: Batch, context: Context) -> Tensor:
        draws = context.draws(batch.keys, "depth_multitask/noise")
        deviation = draws.uniform(1, purpose="deviation").to(batch.images.device) * self.noise  # (N, 1)
        noise = draws.normal(*batch.images.shape[1:], purpose="noise").to(batch.images.device)
        return (batch.images + deviation.view(-1, 1, 1, 1) * noise).clamp(0, 1)

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
        if companion.feed is None or self.task in ("picture", "none"):
            return {}
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
        found = verdict({name: sum(row[name] for row in rows) / len(rows) for name in rows[0]})
        if self.task == "shuffled":  # which promises no depth
            found.pop("failed", None)
        return found

    def keep(self, companion: nn.Module) -> dict[str, Tensor]:
        if not self.keep_depth or self.task != "depth":
            return {}
        kept = ("decoder.", "pose.", "focal")
        return {name: value for name, value in companion.state_dict().items() if name.startswith(kept)}


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
