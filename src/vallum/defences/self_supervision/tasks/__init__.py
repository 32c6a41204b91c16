"""Self-supervised tasks, by their names; a new one is one class in one file."""

from vallum.defences.self_supervision.tasks.base import TASKS, SelfTask, read_tasks, write_tasks
from vallum.defences.self_supervision.tasks.consistency import Consistency
from vallum.defences.self_supervision.tasks.contrastive import Contrastive
from vallum.defences.self_supervision.tasks.equivariance import Equivariance
from vallum.defences.self_supervision.tasks.jigsaw import Jigsaw
from vallum.defences.self_supervision.tasks.reconstruction import Inpainting, Masked
from vallum.defences.self_supervision.tasks.rotation import Rotation

__all__ = [
    "TASKS", "SelfTask", "read_tasks", "write_tasks",
    "Contrastive", "Rotation", "Inpainting", "Equivariance", "Consistency", "Jigsaw", "Masked",
]  # fmt: skip
