"""Race: the nineteen corruptions of ImageNet-C, vallum against corrupt-tta, in one process.

    pip install "vallum[benchmarks]"
    python benchmarks/corruptions.py --images 16 --repeats 5 --threads 2

Both sides get the same images, already in memory in the form that each wants; reading and writing files is no part of
it. Rounds of the two alternate, so that whatever else the machine does meets both. On a GPU: `--device cuda`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import cv2
import numpy as np
import torch
from corrupt_tta import corruption_dict

from vallum.threats import threat
from vallum.threats.corruptions import ALL

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def pictures(count: int, side: int) -> np.ndarray:
    """(N, H, W, 3) bytes: smooth colours, edges and grain."""
    stream = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side] / side
    images = []
    for _ in range(count):
        waves = [np.sin(stream.uniform(2, 12) * rows + stream.uniform(2, 12) * columns + k) for k in range(3)]
        image = 0.5 + 0.35 * np.stack(waves, -1) + 0.04 * stream.standard_normal((side, side, 3))
        image[(rows - stream.uniform()) ** 2 + (columns - stream.uniform()) ** 2 < 0.03] *= 0.3
        images.append(image)
    return np.uint8(np.clip(images, 0, 1) * 255)


def seconds(work: Callable[[], object], device: str, clock: Callable[[], float]) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    start = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def environment(arguments: argparse.Namespace) -> dict[str, object]:
    names = ("torch", "numpy", "scipy", "corrupt-tta", "opencv-python-headless", "scikit-image", "pillow")
    return {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load before": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "device": torch.cuda.get_device_name() if arguments.device != "cpu" else "cpu",
        **{name: value for name, value in vars(arguments).items() if name != "only"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16, help="in a batch; the reference gets two of them, one by one")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5, help="rounds over five severities; medians over the rounds")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: processor time of all threads, fair on a busy machine"
    )
    parser.add_argument("--only", nargs="*", default=ALL)
    arguments = parser.parse_args()
    clock = CLOCKS[arguments.clock]
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    print(json.dumps(environment(arguments), indent=1))

    arrays = pictures(arguments.images, arguments.side)
    images = torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous().to(arguments.device).float() / 255
    few = arrays[:2]
    print("\n| corruption | vallum ms | spread | corrupt-tta ms | spread | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    sums = [0.0, 0.0]
    for name in arguments.only:
        ours: list[float] = []
        theirs: list[float] = []
        reference = corruption_dict[name]
        threats = [threat(f"{name}:{severity}") for severity in range(1, 6)]

        def all_ours(threats: list = threats) -> None:
            for one in threats:
                one(None, images, None)

        def all_theirs(reference: Callable = reference) -> None:
            for severity in range(1, 6):
                for image in few:
                    reference(image, severity)

        all_ours()  # warm-up: tables, textures and memory are made once
        reference(few[0], 1)
        for _ in range(arguments.repeats):
            ours.append(seconds(all_ours, arguments.device, clock) / (5 * len(images)) * 1e3)
            theirs.append(seconds(all_theirs, "cpu", clock) / (5 * len(few)) * 1e3)
        medians = [statistics.median(ours), statistics.median(theirs)]
        sums = [total + median for total, median in zip(sums, medians, strict=True)]
        cells = [
            f"{median:.2f} | {min(all_):.2f}-{max(all_):.2f}"
            for median, all_ in zip(medians, (ours, theirs), strict=True)
        ]
        print(f"| {name} | {cells[0]} | {cells[1]} | {medians[1] / medians[0]:.1f} |", flush=True)
    print(f"| **sum** | **{sums[0]:.1f}** | | **{sums[1]:.1f}** | | **{sums[1] / sums[0]:.1f}** |")


if __name__ == "__main__":
    main()
