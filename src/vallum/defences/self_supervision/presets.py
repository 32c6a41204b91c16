"""Two ways to repair, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vallum.defences.self_supervision.repair import Repair

Preset = Literal["fast", "paper"]


@dataclass(frozen=True)
class Chosen:
    """What a preset stands for."""

    tasks: str
    repair: Repair


PRESETS: dict[str, Chosen] = {
    # Four looks at each of five steps: 41 passes of the bare model, the last one included.
    "fast": Chosen("contrastive(anchor=true)+rotation(count=1)+inpainting", Repair()),
    # As published, with its faults repaired: negatives that do not come from the batch, all pairs of views, batch norm
    # in eval mode, views of each image's own, heads on the frozen network for all three tasks.
    "paper": Chosen(
        "contrastive(views=4,smallest=0.08,colour=0.8)+rotation+inpainting",
        Repair(
            budget=16 / 255,
            steps=40,
            step_size=2 / 255,
            schedule="constant",
            start="uniform",
            weights="paper",
            random=True,
        ),
    ),
}
