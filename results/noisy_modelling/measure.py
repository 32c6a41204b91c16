"""Everything that results/noisy_modelling/README.md reports, a part at a time; what is there already is not done again.

    python results/noisy_modelling/measure.py denoising MODEL -n 300
    python results/noisy_modelling/measure.py plateau MODEL -n 40 --eps 4/255 --sigmas 0.15
    python results/noisy_modelling/measure.py baselines MODEL NAME=OTHER ... -n 100 --sigmas 0.15 --out runs/noisy
    python results/noisy_modelling/measure.py claims FOLDER FOLDER ... -n 64 --eps 4/255 --sigmas 0.15
    python results/noisy_modelling/measure.py certificate MODEL -n 30 --sigmas 0.25

MODEL is builtin:signs_denoised, or a folder that `vallum harden ... --with noisy_modelling:...` left.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

import torch

import vallum
from vallum.defences import De3
from vallum.defences.chance import drawing
from vallum.defences.noisy_modelling import add_noise
from vallum.defences.noisy_modelling.certificate import certify, predict
from vallum.defences.stand_ins import Averaged
from vallum.evaluation.statistics import rate, share
from vallum.images import Draws
from vallum.specs import read_value
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


def baselines(
    defence: De3, others: list[str], data: str, n: int, out: Path, sigmas: list[float], radii: list[str]
) -> dict[str, object]:
    """What is left of the defence where a part of it is missing, and of others, on the same images, attacked alike."""
    models: dict[str, object] = {"denoiser without noise": De3(defence.model, defence.denoiser, 0.0, always=True)}
    models |= dict(text.split("=", 1) for text in others)
    for sigma in sigmas:
        models[f"De^3, sigma={sigma:g}"] = defence.tuned(sigma=sigma)
        models[f"only noise, sigma={sigma:g}"] = De3(defence.model, OnlyNoise(), sigma)
    threats = [f"pgd:eps={eps},steps=20" for eps in radii]
    run = vallum.evaluate(models, data, threats, n=n, out=out, undefended=False)
    wanted = ("model", "threat", "surface", "metric", "value", "low", "high")
    rows = [{name: row[name] for name in wanted} for row in run.summary]
    return {"data": data, "images": n, "rows": rows}


def plateau(defence: De3, data: str, n: int, eps: float, sigma: float, rows: list[dict[str, object]]) -> None:
    """What more steps and more draws for the attacker bring: it has plateaued where no more falls."""
    tuned = defence.tuned(sigma=sigma)
    batch = vallum.load_data(data).batch(range(n))
    for steps, draws in ((10, 1), (20, 8), (40, 16), (10, 4), (20, 4), (40, 8)):
        if any((row["steps"], row["draws"]) == (steps, draws) for row in rows):
            continue
        attack = PGD(eps, steps=steps, early_stop=False)
        found = attack(Averaged(tuned, draws), batch.images, batch.labels, batch.keys)
        rows.append({"steps": steps, "draws": draws, **judged(tuned, found, batch.labels)})
        print(rows[-1], flush=True)
        write("plateau", {"data": data, "images": n, "eps": eps, "sigma": sigma, "rows": rows})


def judged(defence: De3, images: torch.Tensor, labels: torch.Tensor) -> dict[str, list[float]]:
    """Over ten fresh draws: the mean with its interval over images, what most draws say, and whether all are right."""
    right = torch.stack([_answers(defence, images, number) == labels for number in range(10)]).double().mean(0).numpy()
    found = {"mean": share(right), "majority": share((right > 0.5) * 1.0), "worst of 10": share((right == 1) * 1.0)}
    return {name: [round(value, 4) for value in vars(one).values()] for name, one in found.items()}


def claims(folders: list[str], data: str, n: int, eps: float, sigmas: list[float]) -> None:
    """Denoisers that were pre-trained in other ways, each with a classifier that learnt from what it makes."""
    source, rows = vallum.load_data(data), known("claims")
    many, batch = source.batch(range(500)), source.batch(range(n))
    for folder in folders:
        loaded = vallum.load_model(folder)
        assert isinstance(loaded, De3), f"{folder} was not hardened with noisy_modelling"
        for name, value in product(["hide"], (0.25, 0.5, 0.75)) if loaded.hide else product(["sigma"], sigmas):
            at = f"{name}={value:g}"
            if any((row["model"], row["at"]) == (Path(folder).name, at) for row in rows):
                continue
            defence = loaded.tuned(**{name: value})
            with drawing(seed=1), torch.no_grad():
                found = torch.cat([defence.purify(part) for part in many.images.split(64)])
            attack = PGD(eps, steps=20, early_stop=False)
            hard = attack(Averaged(defence, 8), batch.images, batch.labels, batch.keys)
            rows.append({
                "model": Path(folder).name, "at": at, "mse": round(float((found - many.images).square().mean()), 5),
                "clean": judged(defence, many.images, many.labels), "attacked": judged(defence, hard, batch.labels),
            })  # fmt: skip
            print(rows[-1], flush=True)
            write("claims", {"data": data, "images": n, "eps": eps, "rows": rows})


def certificate(defence: De3, data: str, n: int, sigma: float, rows: list[dict[str, object]]) -> None:
    """Each image's certified radius, and whether an attack within it flips the vote that was certified."""
    tuned = defence.tuned(sigma=sigma)
    batch = vallum.load_data(data).batch(range(n))
    for place, key in enumerate(batch.keys.tolist()):
        if any(row["key"] == key for row in rows):
            continue
        image = batch.images[place]
        proven = certify(tuned, image, key, draws=1000)
        row: dict[str, object] = {"key": key, "label": int(batch.labels[place]), **vars(proven)}
        if proven.prediction is not None:
            for times in (0.99, 2.0, 4.0):
                attack = PGD(times * proven.radius, norm="2", steps=20, early_stop=False)
                target = torch.tensor([proven.prediction])
                moved = attack(Averaged(tuned, 8), image[None], target, [key])
                row[f"at {times:g} of the radius"] = predict(tuned, moved[0], key, draws=500, seed=1).prediction
        rows.append(row)
        write("certificate", {"data": data, "images": n, "sigma": sigma, "rows": rows})
    sure = [row for row in rows if row["prediction"] is not None]
    print(f"{len(rows)} images, {len(sure)} certified")
    for times in ("0.99", "2", "4"):
        said = [row[f"at {times} of the radius"] for row in sure]
        flipped = sum(now not in (None, row["prediction"]) for now, row in zip(said, sure, strict=True))
        print(f"within {times} of the radius: {flipped} flipped, {sum(now is None for now in said)} undecided")


def write(part: str, found: dict[str, object]) -> None:
    (HERE / f"{part}.json").write_text(json.dumps(found, indent=1) + "\n")


def known(part: str) -> list[dict[str, object]]:
    """Rows of an earlier call, which are not measured again."""
    path = HERE / f"{part}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def _answers(defence: De3, images: torch.Tensor, number: int) -> torch.Tensor:
    with drawing(seed=1, numbers=number), torch.no_grad():
        return defence(images).argmax(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["denoising", "plateau", "baselines", "claims", "certificate"])
    parser.add_argument("folder", nargs="+")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--data", default="builtin:signs?split=test")
    parser.add_argument("--out", type=Path, default=Path("runs/noisy_modelling"))
    parser.add_argument("--sigmas", default="0.15")
    parser.add_argument("--eps", default="2/255,4/255")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sigmas = [float(one) for one in given.sigmas.split(",")]
    radii = given.eps.split(",")
    eps = read_value(radii[-1], float, "--eps")
    if given.part == "claims":
        claims(given.folder, given.data, given.n, eps, sigmas)
        return
    defence = vallum.load_model(given.folder[0])
    assert isinstance(defence, De3), "a model that was hardened with noisy_modelling is needed"
    if given.part == "denoising":
        write("denoising", denoising(defence, given.data, given.n))
    elif given.part == "baselines":
        write("baselines", baselines(defence, given.folder[1:], given.data, given.n, given.out, sigmas, radii))
    elif given.part == "plateau":
        plateau(defence, given.data, given.n, eps, sigmas[0], known("plateau"))
    else:
        certificate(defence, given.data, given.n, sigmas[0], known("certificate"))


if __name__ == "__main__":
    main()
