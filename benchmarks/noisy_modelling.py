"""What noisy modelling costs beside its parts: a prediction, and a step of pre-training.

    python benchmarks/noisy_modelling.py --clock cpu --threads 1

A prediction of the defence is held against one pass of its denoiser and one of its classifier on the same images; with
n draws against n of each. Pre-training, through the training loop with its loader, its noise for each image and its
schedule, is held against a bare loop of the same transformer of timm's: noise, forward, backward, AdamW, and no more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

import vallum
from vallum.defences import De3, NoisyModellingPretraining
from vallum.models.nets import MEAN, STD

Act = Callable[[], object]


def ratios(clock: Callable[[], float], rounds: int, ours: Act, theirs: Act) -> list[float]:
    """Of the times of two functions that alternate, after a round each that does not count."""
    found = []
    for number in range(rounds + 1):
        times = []
        for function in (ours, theirs) if number % 2 else (theirs, ours):
            started = clock()
            function()
            times.append(clock() - started)
        mine, its = times if number % 2 else times[::-1]
        if number:
            found.append(mine / its)
    return found


def prediction(clock: Callable[[], float], rounds: int, size: int, batch: int, draws: int) -> list[float]:
    model = vallum.load_model("net:resnet?classes=43")
    made = NoisyModellingPretraining().around(model, torch.zeros(1, 3, size, size)).eval()
    assert isinstance(made, De3)
    defence = made.tuned(draws=draws)
    serial = itertools.count()
    images = torch.rand(batch, 3, size, size)
    many = images.repeat(draws, 1, 1, 1)

    def ours() -> None:
        with torch.no_grad():
            defence(images + next(serial) * 1e-6)

    def parts() -> None:
        with torch.no_grad():
            defence.denoiser(many)
            model(many)

    return ratios(clock, rounds, ours, parts)


def pretraining(clock: Callable[[], float], rounds: int, size: int, batch: int, images: int) -> dict[str, float]:
    """Images per second of both, each from the difference of a longer and a shorter run: so that no start counts."""
    data = (torch.rand(images, 3, size, size), torch.arange(images) % 43)
    recipe = NoisyModellingPretraining()

    def ours(epochs: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            vallum.train(
                "net:resnet", data, recipe, out=Path(folder), epochs=epochs, batch_size=batch, optimizer="adamw",
                validation=0.0, shift=0.0, colour=0.0, quiet=True, checkpoint_every=0, device="cpu",
            )  # fmt: skip

    def bare(epochs: int) -> None:
        made = recipe.around(vallum.load_model("net:resnet?classes=43"), data[0][:1])
        assert isinstance(made, De3)
        denoiser = made.denoiser.train()
        optimizer = torch.optim.AdamW(denoiser.parameters(), 1e-3, weight_decay=0.05, fused=True)
        for _ in range(epochs):
            for start in range(0, images - batch + 1, batch):
                clean = data[0][start : start + batch]
                noisy = clean + 0.25 * torch.randn_like(clean)
                said = denoiser.decoder(denoiser.encoder.forward_features((noisy - MEAN) / STD))
                wanted = F.unfold((clean - MEAN) / STD, denoiser.patch, stride=denoiser.patch).transpose(1, 2)
                F.mse_loss(said, wanted).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

    ours(1)
    bare(1)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(rounds):
        for name, function in (("ours", ours), ("bare", bare)):
            spent = []
            for epochs in (1, 2):
                started = clock()
                function(epochs)
                spent.append(clock() - started)
            times[name].append(spent[1] - spent[0])
    steps = images // batch * batch
    return {name: steps / statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=1024, help="of an epoch of pre-training")
    parser.add_argument("--out", type=Path, help="write the numbers there as JSON")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = time.process_time if given.clock == "cpu" else time.perf_counter
    found: dict[str, object] = {
        "torch": torch.__version__, "machine": platform.machine(), "clock": given.clock, "threads": given.threads,
        "size": given.size, "batch": given.batch, "rounds": given.rounds,
    }  # fmt: skip
    for draws in (1, 8):
        batch = max(1, given.batch // draws)
        values = prediction(clock, given.rounds, given.size, batch, draws)
        found[f"prediction, {draws} draws"] = [round(value, 3) for value in sorted(values)]
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"prediction with {draws} draws: {statistics.median(values):.3f} of its parts ({spread})", flush=True)
    speed = pretraining(clock, max(1, given.rounds // 2), given.size, given.batch, given.images)
    found["pretraining, images per second"] = {name: round(value, 1) for name, value in speed.items()}
    share = speed["ours"] / speed["bare"]
    print(f"pre-training: {speed['ours']:.0f} images/s, bare loop {speed['bare']:.0f}: {share:.3f} of it")
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
