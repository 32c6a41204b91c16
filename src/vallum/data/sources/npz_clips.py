"""Clips in arrays on disk."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vallum.data.clips import CLIP_SOURCES, Clip, Clips
from vallum.data.decoding import as_planes, as_tensor
from vallum.data.frames import Pinhole
from vallum.data.sizing import stretch_mask, stretch_to
from vallum.data.storage import existing_path
from vallum.data.stored import StoredArray, stored_arrays
from vallum.errors import UserError
from vallum.specs import Source

# What an array holds for each clip, after its first axis; H and W are the frames'.
SHAPES: dict[str, tuple[int | str, ...]] = {
    "intrinsics": (3, 3),
    "motion": (2, 4, 4),
    "depth": ("H", "W"),
    "moving": ("H", "W"),
}


@CLIP_SOURCES.register("npz")
def npz_clips(source: Source, size: tuple[int, int] | None) -> Clips:
    """An array `frames` (N, 3, H, W, C) of uint8, and what is known of them: npz:clips.npz

    intrinsics (N, 3, 3) in pixels, motion (N, 2, 4, 4), depth (N, H, W), moving (N, H, W): any of them, or none.
    """
    source.refuse_unknown()
    path = existing_path(source.rest, "an .npz file with the array frames")
    arrays = stored_arrays(path, ("frames", *SHAPES))
    return ArrayClips(arrays, size, str(path))


class ArrayClips(Clips):
    """Clip i is `frames[i]`; the arrays are mapped, not read."""

    def __init__(self, arrays: dict[str, StoredArray], size: tuple[int, int] | None, where: str) -> None:
        self.arrays, self.size, self.where, self.spec = arrays, size, where, ""
        frames = arrays.get("frames")
        if frames is None or len(frames.shape) != 5 or frames.shape[1] != 3 or not len(frames):
            found = "has no frames" if frames is None else f"has frames of shape {frames.shape}"
            raise UserError(f"{where} {found}", "frames (N, 3, H, W, C): before, middle, after")
        if frames.dtype != np.uint8:
            raise UserError(f"the frames of {where} are {frames.dtype}", "uint8, 0 to 255")
        count, sides = frames.shape[0], {"H": frames.shape[2], "W": frames.shape[3]}
        for name, shape in SHAPES.items():
            expected = (count, *(sides[side] if isinstance(side, str) else side for side in shape))
            if name in arrays and arrays[name].shape != expected:
                raise UserError(f"{name} of {where} has shape {arrays[name].shape}", f"{expected}, as its frames have")

    def __len__(self) -> int:
        return len(self.arrays["frames"])

    def read(self, index: int) -> Clip:
        if not 0 <= index < len(self):
            raise UserError(f"there is no clip {index}", f"{self.where} has 0 to {len(self) - 1}")
        known = {name: array[index] for name, array in self.arrays.items()}
        frames = known.pop("frames")  # (3, H, W, C)
        stored = (frames.shape[2], frames.shape[1])
        planes = [as_planes(frame, self.where) for frame in frames]
        if self.size:
            planes = [stretch_to(frame, self.size) for frame in planes]
            for name in ("depth", "moving"):
                if name in known:
                    known[name] = stretch_mask(known[name], self.size)
        if "intrinsics" in known:
            shown = (self.size[1], self.size[0]) if self.size else stored
            known["intrinsics"] = _stretched(known["intrinsics"], stored, shown)
        tensors: dict[str, Tensor] = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in known.items()}
        return Clip(
            torch.stack([as_tensor(frame, None) for frame in planes]),
            **{name: value.bool() if name == "moving" else value.float() for name, value in tensors.items()},
        )


def _stretched(matrix: np.ndarray, stored: tuple[int, int], shown: tuple[int, int]) -> np.ndarray:
    fx, fy, cx, cy = (float(matrix[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return Pinhole(fx, fy, cx, cy).matrix(stored, shown).numpy()
