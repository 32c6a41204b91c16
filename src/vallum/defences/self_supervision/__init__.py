"""Self-supervision: images are repaired by several tasks at once before they are classified.

Public names: the defence `SelfSupervised`; `Repair`, the settings of what it does to an image, `repair`, which does it,
and `Repaired`, what comes of that; `Objective`, the tasks with their heads and what clean images lose; `PRESETS`; the
recipes `SelfSupervision`, `AmortisedRepair` with its `Guess`, and `JointSelfSupervision`; tasks by `TASKS`, `SelfTask`,
`read_tasks`, `write_tasks`; what heads read: `Backbone`, `Features`, `Layout`; `load_self_supervision`, the source of
saved folders.
"""

from vallum.defences.self_supervision.amortised import AmortisedRepair
from vallum.defences.self_supervision.backbone import Backbone, Features, Layout
from vallum.defences.self_supervision.defence import SelfSupervised
from vallum.defences.self_supervision.guess import Guess
from vallum.defences.self_supervision.joint import JointSelfSupervision
from vallum.defences.self_supervision.objective import Objective
from vallum.defences.self_supervision.presets import PRESETS
from vallum.defences.self_supervision.recipe import SelfSupervision
from vallum.defences.self_supervision.repair import Repair, Repaired, repair
from vallum.defences.self_supervision.source import load_self_supervision
from vallum.defences.self_supervision.tasks import TASKS, SelfTask, read_tasks, write_tasks

__all__ = [
    "SelfSupervised", "Repair", "Repaired", "repair", "Objective", "PRESETS", "SelfSupervision", "AmortisedRepair",
    "Guess", "JointSelfSupervision", "TASKS", "SelfTask", "read_tasks", "write_tasks", "Backbone", "Features", "Layout",
    "load_self_supervision",
]  # fmt: skip
