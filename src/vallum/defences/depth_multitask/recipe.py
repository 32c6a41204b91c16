"""Segmentation and depth at once, after Klingner, Bär and Fingscheidt 2020 (arXiv 2004.11072)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.data import ClipBatch, load_clips
from vallum.defences.class_weights import HELP, weighted_cross_entropy
from vallum.defences.depth_multitask.companion import Companion, focal_in_widths, widths_of
from vallum.defences.depth_multitask.gate import explained, verdict
from vallum.defences.depth_multitask.geometry import flipped
from vallum.defences.depth_multitask.holding import moves
from vallum.defences.depth_multitask.judging import constant_errors, depth_errors
from vallum.defences.depth_multitask.networks import depth_of, inverse_depth
from vallum.defences.depth_multitask.second_task import at_size, depth_loss, picture_loss, strangers
from vallum.defences.depth_multitask.sharing import as_input, beside, encoder_of, features_of
from vallum.defences.plain import accuracy
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe
from vallum.errors import UserError
from vallum.images import Batch, Draws, Task
from vallum.models.model import Model
from vallum.specs import Source, parameter


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
    balance: float = parameter("share of the segmentation in the encoder's gradient, the paper's lambda", 0.1)
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
        size = None if "size" in Source.parse(self.video).options else (images.shape[-2], images.shape[-1])
        clips = load_clips(self.video, size=size) if self.clips else None
        made = Companion(model, images, clips, self.scales, images.shape[1] if self.task == "picture" else 1)
        if made.feed is not None and self.task in ("depth", "shuffled"):
            made.feed.refuse_stillness()  # now, not after the training
        if made.feed is not None:
            widths_of(model, made.feed.judged(1)[0].frames[:, 1])  # the clips may be of a size of their own
        return made

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
        # bright * (contrast * (grey + (frames - grey) * colour - 0.5) + 0.5), in fewer passes
        rest = torch.addcmul(
            bright * (1 - contrast) / 2, frames.mean(2, keepdim=True), bright * contrast * (1 - colour)
        )
        return frames, intrinsics, torch.addcmul(rest, frames, bright * contrast * colour).clamp_(0, 1), mirrored

    @torch.no_grad()
    def finish(self, model: Model, companion: nn.Module) -> dict[str, Any]:
        """Depth on the clips that were held out, beside a constant depth."""
        assert isinstance(companion, Companion)
        if companion.feed is None:
            return {}
        found: dict[str, Any] = {}
        if self.task in ("depth", "shuffled"):
            found = self._judged(model, companion, companion.feed.judged(8))
        if self.task == "shuffled":  # which promises no depth
            found.pop("failed", None)
        if companion.feed.source.broken:
            found["clips_left_out"] = len(companion.feed.source.broken)
        return found

    def _judged(self, model: Model, companion: Companion, videos: Sequence[ClipBatch]) -> dict[str, Any]:
        known: list[tuple[int, dict[str, float]]] = []  # clips, and figures that are means over them
        shown: dict[str, list[Tensor]] = {}  # of clips in which the camera moves; the others tell nothing of depth
        clips, estimated = 0, False
        for video in videos:
            video = video.to(model.device)
            frames, size, clips = video.frames, video.frames.shape[-2:], clips + len(video)
            middle = as_input(model, frames[:, 1])
            features = features_of(encoder_of(model)(middle), middle)
            depth = depth_of(at_size(inverse_depth(companion.decoder(features)[0], self.form), size))
            cameras, moving = companion.cameras(video.intrinsics, size), moves(frames)
            errors = explained(frames, depth, companion.pose.both(frames), cameras)
            for name, values in errors.items():
                shown.setdefault(name, []).append(values[moving])
            estimated |= bool(video.intrinsics.isnan().any())
            if video.depth is not None:
                base = constant_errors(video.depth)["abs_rel"]
                known.append((len(video), depth_errors(depth, video.depth) | {"constant_abs_rel": base}))
        figures = {name: float(torch.cat(values).mean()) for name, values in shown.items() if len(torch.cat(values))}
        for name in known[0][1] if known else ():
            figures[name] = sum(count * row[name] for count, row in known) / sum(count for count, _ in known)
        found = verdict(figures) | {"depth_clips": clips}
        found["depth_clips_still"] = clips - sum(map(len, shown["still_error"]))
        if estimated:
            found["focal_in_widths"] = [round(value, 4) for value in focal_in_widths(companion.focal).tolist()]
        return found

    def keep(self, companion: nn.Module) -> dict[str, Tensor]:
        if not self.keep_depth or self.task != "depth":
            return {}
        kept = ("decoder.", "pose.", "focal")
        return {name: value for name, value in companion.state_dict().items() if name.startswith(kept)}
