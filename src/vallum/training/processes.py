"""One process or several: where a training runs, and how its processes agree."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.models.load import available


def make_fabric(device: str, devices: int, precision: str) -> Any:
    """Fabric for `devices` devices of this machine; under torchrun or SLURM, for those that were given to the job."""
    import torch.distributed as dist
    from lightning_fabric import Fabric

    if devices < 1:
        raise UserError(f"devices={devices}", "at least 1 is needed")
    kind, _, index = device.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    else:
        available(device)
    if index and devices > 1:
        raise UserError(f"device={device} with devices={devices}", "a numbered device is one", "leave out the number")
    there = {"cuda": torch.cuda.device_count(), "cpu": max(2, os.cpu_count() or 1)}.get(kind, 1)
    if devices > there:
        raise UserError(f"devices={devices}", f"this machine has {there} of {kind}", "use fewer")
    nodes, launched = 1, False
    if dist.is_available() and dist.is_torchelastic_launched():
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        devices, nodes, launched = here, int(os.environ["WORLD_SIZE"]) // here, True
    elif "SLURM_NTASKS" in os.environ and int(os.environ["SLURM_NTASKS"]) > 1:
        nodes = int(os.environ.get("SLURM_NNODES", 1))
        devices, launched = int(os.environ["SLURM_NTASKS"]) // nodes, True
    several = devices * nodes > 1
    if not several and kind in ("cuda", "mps") and index:
        chosen: Any = [int(index)]
    else:
        chosen = devices
    # Processes of our own are spawned: the alternative runs the user's script again from its first line.
    strategy = "auto" if not several else "ddp" if launched else "ddp_spawn"
    loud = logging.getLogger("lightning_fabric")
    level = loud.level
    try:
        loud.setLevel(logging.WARNING)  # it announces what was asked of it
        return Fabric(accelerator=kind, devices=chosen, num_nodes=nodes, strategy=strategy, precision=precision)
    finally:
        loud.setLevel(level)


def spawns(fabric: Any) -> bool:
    """Whether work is done on copies of the model in processes of our own."""
    return getattr(fabric.strategy, "_start_method", "popen") != "popen"


def sum_of(fabric: Any, tensor: Tensor) -> Tensor:
    """The sum over processes, the same bits on each."""
    return tensor if fabric.world_size == 1 else fabric.all_reduce(tensor.clone(), reduce_op="sum")


def copy_from_first(fabric: Any, modules: Iterable[nn.Module]) -> None:
    """Begin on every process with what the first one has: each may have made a network of its own at random."""
    if fabric.world_size > 1:
        for module in modules:
            for tensor in module.state_dict().values():
                torch.distributed.broadcast(tensor, src=0)


def reduce_gradients(fabric: Any, modules: Iterable[nn.Module]) -> None:
    """Sum the gradients and average the buffers over processes, in one message per kind of number.

    Each process has weighed its losses by its share of the images, so the sum is the gradient of their mean. Without
    torch's own wrapper, forward and backward passes of an attack cost no messages and disturb nothing.
    """
    if fabric.world_size == 1:
        return
    tensors: list[Tensor] = []
    for module in modules:
        for p in module.parameters():
            if p.requires_grad:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                tensors.append(p.grad)
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.div_(fabric.world_size)
                tensors.append(buffer)
    for dtype in {tensor.dtype: None for tensor in tensors}:
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        total = sum_of(fabric, torch.cat([tensor.reshape(-1) for tensor in same]))
        for tensor, part in zip(same, total.split([tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(part.view(tensor.shape))
