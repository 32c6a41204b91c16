"""Clips of picture files that lie in order: every three of a run that are `step` apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from vallum.data.clips import Clip, Clips
from vallum.data.data import BrokenImageError
from vallum.data.decoding import as_planes, as_tensor
from vallum.data.sizing import stretch_to
from vallum.data.storage import Storage, readable
from vallum.errors import UserError


@dataclass(frozen=True)
class Pinhole:
    """Focal lengths and middle in pixels, whose centres lie at whole numbers, for pictures of `size` (W, H)."""

    fx: float
    fy: float
    cx: float
    cy: float
    size: tuple[float, float] | None = None  # None: of the pictures as they are

    def matrix(self, stored: tuple[int, int], shown: tuple[int, int]) -> Tensor:
        """(3, 3) for pictures stored with one (W, H) and shown with another.

        >>> Pinhole(100, 100, 49.5, 24.5, (100, 50)).matrix((100, 50), (50, 25))[0].tolist()
        [50.0, 0.0, 24.5]
        """
        across, down = (new / old for new, old in zip(shown, self.size or stored, strict=True))
        made = torch.eye(3)
        made[0, 0], made[1, 1] = self.fx * across, self.fy * down
        made[0, 2], made[1, 2] = (self.cx + 0.5) * across - 0.5, (self.cy + 0.5) * down - 0.5
        return made


@dataclass(frozen=True)
class Run:
    """Frames in the order in which they were taken."""

    names: list[str]
    camera: Pinhole | None = None
    poses: np.ndarray | None = None  # (frames, 4, 4) from the camera's coordinates to the world's


class FrameClips(Clips):
    """Clip i is the i-th three of the runs, one run after the other."""

    def __init__(
        self, storage: Storage, runs: Sequence[Run], size: tuple[int, int] | None, step: int, focal: float | None
    ) -> None:
        self.storage, self.size, self.step, self.focal, self.spec = storage, size, step, focal, ""
        self.reach = 2 * step
        self.drives = [run for run in runs if len(run.names) > 2 * step]
        self.ends = np.cumsum([len(run.names) - 2 * step for run in self.drives])
        if not self.drives:
            longest = max((len(run.names) for run in runs), default=0)
            raise UserError(
                f"{storage.path} holds no run of {2 * step + 1} frames",
                f"a folder of pictures for each drive, in the order of their names; the longest has {longest}",
                "check the path" if longest < 3 else "lower step=",
            )

    def __len__(self) -> int:
        return int(self.ends[-1])

    def runs(self) -> list[range]:
        return [range(start, end) for start, end in pairwise([0, *self.ends.tolist()])]

    def name(self, index: int) -> str:
        run, middle = self._where(index)
        return readable(run.names[middle])

    def read(self, index: int) -> Clip:
        run, middle = self._where(index)
        places = (middle - self.step, middle, middle + self.step)
        frames = []
        for name in (run.names[place] for place in places):
            planes = as_planes(self.storage.read(name), self.storage.where(name))
            stored = planes[0].size
            frames.append(as_tensor(stretch_to(planes, self.size) if self.size else planes, 3))
        if len({frame.shape for frame in frames}) > 1:
            raise BrokenImageError(
                f"the frames around {self.name(index)} differ in size", remedy="give one: ?size=64x192"
            )
        shown = (frames[1].shape[2], frames[1].shape[1])
        camera = run.camera
        if camera is None and self.focal is not None:
            wide, high = stored
            camera = Pinhole(self.focal * wide, self.focal * wide, (wide - 1) / 2, (high - 1) / 2)
        motion = None
        if run.poses is not None:
            before, here, after = run.poses[list(places)]
            motion = torch.from_numpy(np.stack([np.linalg.inv(other) @ here for other in (before, after)])).float()
        known = None if camera is None else camera.matrix(stored, shown)
        return Clip(torch.stack(frames), known, motion)

    def _where(self, index: int) -> tuple[Run, int]:
        if not 0 <= index < len(self):
            raise UserError(f"there is no clip {index}", f"{self.storage.path} has 0 to {len(self) - 1}")
        number = int(np.searchsorted(self.ends, index, side="right"))
        before = int(self.ends[number - 1]) if number else 0
        return self.drives[number], index - before + self.step


def in_order(names: Sequence[str]) -> list[str]:
    """Sorted as people count: frame 9 before frame 10.

    >>> in_order(["b10.png", "b9.png", "a11.png"])
    ['a11.png', 'b9.png', 'b10.png']
    """
    return sorted(names, key=lambda name: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", name)])
