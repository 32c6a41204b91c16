"""The depth branch after training: kept beside a segmenter by keep_depth, loaded by `vallum.load_depth`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vallum.defences.depth_multitask.companion import focal_in_widths, widths_of
from vallum.defences.depth_multitask.geometry import pinhole
from vallum.defences.depth_multitask.networks import DepthDecoder, PoseNet, depth_of, inverse_depth
from vallum.defences.depth_multitask.recipe import DepthMultitask
from vallum.defences.depth_multitask.second_task import at_size
from vallum.defences.depth_multitask.sharing import as_input, encoder_of, features_of
from vallum.defences.recipe import KEPT, recipe
from vallum.errors import UserError
from vallum.images import check_images
from vallum.models import load_model
from vallum.models.model import Model
from vallum.models.saving import saved_facts
from vallum.models.sources.builtin import SHIPPED
from vallum.models.state import load_strictly, read_weights


class Depth(nn.Module):
    """A segmenter and the depth branch that was trained with it.

    Depth is known up to one factor for all images, which no video tells: multiply it by the median of what is known of
    the scenes, or compare within an image.
    """

    def __init__(
        self, model: Model, decoder: DepthDecoder, pose: PoseNet, form: str, focal: tuple[float, float] | None = None
    ) -> None:
        super().__init__()
        self.model, self.decoder, self.pose, self.form = model, decoder, pose, form
        self.focal = focal  # across and down, in widths of the frame, where training had to estimate them

    def forward(self, images: Tensor) -> Tensor:
        """Depths (N, H, W) of images (N, C, H, W) in [0, 1]."""
        return self.with_logits(images)[1]

    def with_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The segmenter's logits (N, K, H, W) and the depths, at the cost of one encoder."""
        check_images(images)
        seen: list[Any] = []
        hook = encoder_of(self.model).register_forward_hook(lambda module, given, found: seen.append(found))
        try:
            logits = self.model(images)
        finally:
            hook.remove()
        maps = self.decoder(features_of(seen[-1], as_input(self.model, images)))
        return logits, depth_of(at_size(inverse_depth(maps[0], self.form), images.shape[-2:]))

    def motion(self, earlier: Tensor, later: Tensor) -> Tensor:
        """(N, 4, 4): from the earlier camera's coordinates to the later one's, in the depths' unit."""
        found: Tensor = self.pose(earlier, later)
        return found

    def intrinsics(self, size: Sequence[int]) -> Tensor:
        """The estimated camera (3, 3), in pixels of frames of `size` (H, W), shaped as those of the training."""
        if self.focal is None:
            raise UserError(
                "the camera was not estimated", "the clips of the training came with intrinsics", "take the clips' own"
            )
        return pinhole(torch.tensor(self.focal), size)


def load_depth(folder: str | Path) -> Depth:
    """What sees depth, from a folder that `depth_multitask:keep_depth=true` has trained, or a model shipped with it.

    >>> depth = load_depth("builtin:streets_segmenter_depth")
    >>> tuple(depth(torch.rand(2, 3, 64, 192)).shape)
    (2, 64, 192)
    """
    name = str(folder).removeprefix("folder:")
    place = SHIPPED / name.removeprefix("builtin:") if name.startswith("builtin:") else Path(name).expanduser()
    model = load_model(str(folder))
    said = saved_facts(place).get("extra", {}).get("training", {}).get("recipe", "")
    if not (place / KEPT).is_file() or not said.startswith("depth_multitask"):
        raise UserError(
            f"{folder} keeps no depth",
            f"a folder with {KEPT}, as depth_multitask:keep_depth=true leaves it",
            "train it with keep_depth=true",
        )
    how = recipe(said)
    assert isinstance(how, DepthMultitask)
    kept = read_weights(place / KEPT)
    learnt = kept.pop("focal")
    across, down = focal_in_widths(learnt).tolist()
    focal = (across, down) if bool(learnt.any()) else None  # where the camera was known nothing has moved it
    high, wide = model.size or (64, 64)
    channels = kept["pose.body.0.weight"].shape[1] // 2
    with torch.random.fork_rng():  # what starts at random here is overwritten
        decoder = DepthDecoder(widths_of(model, torch.zeros(1, channels, high, wide)), how.scales)
        made = Depth(model, decoder, PoseNet(channels), how.form, focal)
    load_strictly(nn.ModuleDict({"decoder": made.decoder, "pose": made.pose}), kept, place / KEPT)
    return made.eval().requires_grad_(False)
