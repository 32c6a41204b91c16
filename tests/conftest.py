"""One thread per process: two threads on busy cores are slower than one, and thread counts change rounding."""

import torch
from hypothesis import settings

from vallum.torchvision_shim import ensure_torchvision

torch.set_num_threads(1)
settings.register_profile("vallum", deadline=None)  # a busy machine is no failure
settings.load_profile("vallum")
ensure_torchvision()  # torchmetrics, used as an oracle, imports torchvision where it finds one
