"""Whether depth was learnt, judged by those who know it, or else by how much better it explains frames than none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vallum.defences.depth_multitask.geometry import warp
from vallum.defences.depth_multitask.photometric import Target, best_explained, difference

LEARNT = 0.6  # of the constant depth's abs rel: what is above has not learnt depth
# Of the error that the best constant depth leaves, where no true depth is known. On clips of streets true depth leaves
# 0.58 of it, a third of the true relief, which has 0.56 of the constant's abs rel, 0.90, a quarter, which has 0.64 to
# 0.67, 0.93, constants and untrained networks 1.00: so it opens where the other gate does.
EXPLAINED = 0.9
FACTORS = tuple(2 ** (half / 2) for half in range(-4, 5))  # of a depth, from a quarter to four times


def explained(frames: Tensor, depth: Tensor, motions: Sequence[Tensor], cameras: Tensor) -> dict[str, Tensor]:
    """How far clips (N, 3, C, H, W) are from their middle frames, (N,) each.

    "warped": with these depths (N, H, W) and motions; "fitted": with the depths times whatever factor is best for the
    clip, which takes a wrong length of the motion away; "constant": with the same depth everywhere, times its best
    factor; "still": with the frames as they are. Only what has the right relief has "fitted" below "constant".
    """
    before, middle, after = frames.unbind(1)
    target = Target.of(middle)

    def error(depth: Tensor) -> Tensor:
        pairs = zip((before, after), motions, strict=True)
        warped = [warp(source, depth, motion, cameras)[0] for source, motion in pairs]
        return best_explained(target, warped, None)[0].mean((1, 2))

    def best(depth: Tensor) -> Tensor:
        return torch.stack([error(depth * factor) for factor in FACTORS]).amin(0)

    level = 1 / (1 / depth).mean((1, 2), keepdim=True)
    still = torch.minimum(difference(before, target), difference(after, target)).mean((1, 2))
    return {
        "warped_error": error(depth),
        "fitted_error": best(depth),
        "constant_error": best(level.expand_as(depth)),
        "still_error": still,
    }


def verdict(figures: dict[str, float]) -> dict[str, Any]:
    """The figures, and whether depth was learnt: by abs rel where it is known, or else by how it explains frames.

    >>> verdict({"fitted_error": 0.048, "constant_error": 0.059})["depth_learnt"]
    True
    >>> verdict({"abs_rel": 0.5, "constant_abs_rel": 0.55, "fitted_error": 0.1, "constant_error": 0.2})["depth_learnt"]
    False
    """
    found: dict[str, Any] = {f"depth_{name}": round(value, 4) for name, value in figures.items()}
    if "abs_rel" in figures:
        name, limit, value, base = "abs rel", LEARNT, figures["abs_rel"], figures["constant_abs_rel"]
        beside = "a constant depth's"
    else:
        name, limit, value, base = (
            "error of warped frames",
            EXPLAINED,
            figures["fitted_error"],
            figures["constant_error"],
        )
        beside = "what the best constant depth leaves under the same motions"
    found["depth_learnt"] = value < limit * base
    if not found["depth_learnt"]:
        found["failed"] = (
            f"depth was not learnt: its {name} is {value:.3f}, not below {limit:g} of {beside}, {base:.3f}"
        )
    return found
