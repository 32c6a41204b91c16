"""One thread per process: two threads on busy cores are slower than one, and thread counts change rounding."""

import torch

torch.set_num_threads(1)
