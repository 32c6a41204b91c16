"""How fast streets are made, and how well a frame explains the one before it: python benchmarks/streets.py [SIZE]"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor

import torch

from vallum.data import load_clips, load_data
from vallum.defences.depth_multitask.geometry import warp

SIZE = sys.argv[1] if len(sys.argv) > 1 else "64x192"


def made(part: int) -> tuple[int, float]:
    """Frames, and the processor's seconds that they took."""
    torch.set_num_threads(1)
    clips = load_clips(f"builtin:streets?n=1000&size={SIZE}")
    clips.read(0)
    begin = time.process_time()
    clips.batch(range(part * 40, part * 40 + 40))
    return 120, time.process_time() - begin


def main() -> None:
    begin = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        parts = list(pool.map(made, range(2)))
    wall = time.perf_counter() - begin
    frames, seconds = (sum(column) for column in zip(*parts, strict=True))
    print(print(f"clips {SIZE}: {frames / seconds:.0f} frames per processor second, {frames / wall:.0f} a second"))
    images = load_data(f"builtin:streets?n=1000&size={SIZE}")
    images.read(0)
    begin = time.process_time()
    images.batch(range(60))
    print(f"images {SIZE}: {60 / (time.process_time() - begin):.0f} per processor second")
    batch = load_clips(f"builtin:streets?n=24&size={SIZE}").batch(range(24))
    assert batch.motion is not None
    assert batch.depth is not None
    assert batch.moving is not None
    warped, inside = warp(batch.frames[:, 2], batch.depth.clamp(max=1e4), batch.motion[:, 1], batch.intrinsics)
    seen = inside & ~batch.moving
    for name, other in (("warped with true depth and motion", warped), ("as it is", batch.frames[:, 2])):
        error = (other - batch.frames[:, 1]).abs().mean(1)[seen].mean()
        print(f"mean absolute difference of the next frame, {name}: {error:.4f} (occlusions included)")


if __name__ == "__main__":
    main()
