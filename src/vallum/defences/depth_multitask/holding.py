"""Which clips are kept from training to judge depth by, and which of them can tell anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.defences.depth_multitask.photometric import difference

HELD_OUT = 32  # clips at most on which depth is judged, and a tenth of them
LEAST = 4  # of those must show motion, or half where there are few
ROWS = 16  # of the small pictures on which motion is looked for, so that a camera's noise averages out
# Of most of the picture, as what drives past a car that stands changes the lesser part. From frame to frame it changed
# by below 0.002 where the car stood, in streets, and above 0.009 where it drove; by 0.002 to 0.004 on a real highway.
# There it doubled over two frames, while what a camera's noise changes stays as it is: below 1.11 where the car stood.
MOVES, GROWS = 0.008, 1.2


def parted(runs: Sequence[range], reach: int) -> tuple[list[int], list[int]]:
    """The clips to train on and those held out: short blocks all over the runs, and nothing near them is trained on.

    A block is at most as long as what is lost around it: clips nearer than `reach` show moments in common.

    >>> train, held_out = parted([range(0, 40)], 2)
    >>> held_out, sorted({*range(40)} - {*train})
    ([18, 19, 20, 21], [16, 17, 18, 19, 20, 21, 22, 23])
    """
    total = sum(map(len, runs))
    wanted = min(HELD_OUT, max(1, total // 10))
    blocks = max(-(-wanted // max(1, 2 * reach)), min(len(runs), wanted))
    held_out: list[int] = []
    near: set[int] = set()
    for block in range(blocks):
        size = wanted * (block + 1) // blocks - wanted * block // blocks
        middle = (2 * block + 1) * total // (2 * blocks)
        run = next(run for run in runs if middle in run)
        start = max(run.start, min(middle - size // 2, run.stop - size))
        stop = min(start + size, run.stop)
        held_out += range(start, stop)
        near |= {*range(max(run.start, start - reach), min(run.stop, stop + reach))}
    return [index for index in range(total) if index not in near], held_out


def moves(frames: Tensor) -> Tensor:
    """(N,) whether most of the picture changes within clips (N, 3, C, H, W), as it does where the camera moves."""
    width = max(1, frames.shape[-2] // ROWS)
    small = F.avg_pool2d(frames.flatten(0, 1), width).unflatten(0, frames.shape[:2])
    before, middle, after = small.unbind(1)
    earlier, later, both = (
        difference(one, other).flatten(1).median(1).values
        for one, other in ((before, middle), (after, middle), (before, after))
    )
    return (torch.minimum(earlier, later) > MOVES) | (both > GROWS * (earlier + later) / 2)
