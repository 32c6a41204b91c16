"""Everything that results/noisy_modelling/README.md reports, a part at a time; what is there already is not done again.

    python results/noisy_modelling/measure.py denoising FOLDER
    python results/noisy_modelling/measure.py robustness FOLDER -n 200 --out runs/noisy
    python results/noisy_modelling/measure.py plateau FOLDER -n 64 --out runs/noisy

FOLDER is what `vallum harden ... --with noisy_modelling:...` left.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import vallum
from vallum.defences import De3
from vallum.defences.chance import drawing
from vallum.defences.noisy_modelling import add_noise
from vallum.defences.stand_ins import Averaged
from vallum.evaluation.statistics import rate
from vallum.images import Draws
from vallum.threats import PGD

HERE = Path(__file__).parent


def denoising(defence: De3, data: str, n: int) -> dict[str, object]:
    """Mean squared error before and after, and what the classifier makes of both, by sigma."""
    batch = vallum.load_data(data).batch(range(n))
    rows = []
    for sigma in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5):
        noisy = add_noise(batch.images, sigma, Draws(0, batch.keys, "measure"))
        with torch.no_grad():
            found = torch.cat([defence.denoiser(part) for part in noisy.split(64)])
            right = {
                name: int((defence.model(images.clamp(0, 1)).argmax(1) == batch.labels).sum())
                for name, images in (("noisy", noisy), ("denoised", found))
            }
        mse = {
            name: float((one - batch.images).square().mean()) for name, one in (("noisy", noisy), ("denoised", found))
        }
        intervals = {name: [round(v, 4) for v in vars(rate(hits, n)).values()] for name, hits in right.items()}
        rows.append({"sigma": sigma, "mse": mse, "accuracy [value, low, high]": intervals})
        print(rows[-1], flush=True)
    return {"data": data, "images": n, "rows": rows}


class OnlyNoise(torch.nn.Module):
    """In place of a denoiser: what is left of the defence is the noise."""

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return noisy


def robustness(defence: De3, data: str, n: int, out: Path, sigmas: list[float], radii: list[str]) -> None:
    """De^3 at several sigmas, its baselines and adversarial training, on the same images with the same attacks."""
    models: dict[str, object] = {
        "undefended": "builtin:signs_resnet",
        "adversarially trained": "builtin:signs_resnet_robust",
        "denoiser without noise": De3(defence.model, defence.denoiser, 0.0, always=True),
    }
    for sigma in sigmas:
        models[f"De^3, sigma={sigma:g}"] = defence.tuned(sigma=sigma)
        models[f"only noise, sigma={sigma:g}"] = De3(defence.model, OnlyNoise(), sigma)
    threats = [f"pgd:eps={eps},steps=20" for eps in radii]
    run = vallum.evaluate(models, data, threats, n=n, out=out, undefended=False)
    (HERE / "robustness.json").write_text(json.dumps(run.summary, indent=1) + "\n")


def plateau(defence: De3, data: str, n: int, eps: float, sigma: float) -> dict[str, object]:
    """What more steps and more draws for the attacker bring: it has plateaued where no more falls."""
    tuned = defence.tuned(sigma=sigma)
    batch = vallum.load_data(data).batch(range(n))
    rows = []
    for steps, draws in ((10, 1), (10, 4), (20, 4), (20, 8), (40, 8), (40, 16)):
        attack = PGD(eps, steps=steps, early_stop=False)
        found = attack(Averaged(tuned, draws), batch.images, batch.labels, batch.keys)
        right = torch.stack([_answers(tuned, found, number) == batch.labels for number in range(10)])
        rows.append({
            "steps": steps, "draws": draws, "mean": round(float(right.float().mean()), 4),
            "majority": round(float((right.float().mean(0) > 0.5).float().mean()), 4),
            "worst of 10": round(float(right.all(0).float().mean()), 4),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return {"data": data, "images": n, "eps": eps, "sigma": sigma, "rows": rows}


def _answers(defence: De3, images: torch.Tensor, number: int) -> torch.Tensor:
    with drawing(seed=1, numbers=number), torch.no_grad():
        return defence(images).argmax(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["denoising", "robustness", "plateau"])
    parser.add_argument("folder")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--data", default="builtin:signs")
    parser.add_argument("--out", type=Path, default=Path("runs/noisy_modelling"))
    parser.add_argument("--sigmas", default="0.1,0.2")
    parser.add_argument("--eps", default="2/255,4/255,8/255")
    given = parser.parse_args()
    torch.set_num_threads(1)
    defence = vallum.load_model(given.folder)
    assert isinstance(defence, De3), "a folder that was hardened with noisy_modelling is needed"
    sigmas = [float(one) for one in given.sigmas.split(",")]
    if given.part == "robustness":
        robustness(defence, given.data, given.n, given.out, sigmas, given.eps.split(","))
        return
    if given.part == "denoising":
        found = denoising(defence, given.data, given.n)
    else:
        above, below = given.eps.split(",")[0].split("/")
        found = plateau(defence, given.data, given.n, float(above) / float(below), sigmas[0])
    (HERE / f"{given.part}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
