"""One realistic section of each kind."""

from __future__ import annotations

import numpy as np

from vallum.evaluation.sections import (
    Audit,
    Certified,
    Check,
    Frontier,
    Line,
    Matrix,
    Point,
    Rates,
    Section,
    Tradeoff,
    Universal,
)


def falling(start: float, rate: float, axis: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(start * float(np.exp(-rate * x)), 4) for x in axis)


def line(name: str, values: tuple[float, ...], spread: float = 0.03) -> Line:
    return Line(name, values, tuple(max(0.0, v - spread) for v in values), tuple(min(1.0, v + spread) for v in values))


def perturbation(side: int = 32) -> np.ndarray:
    """Waves of a few frequencies, rounded to the ball's corners as such perturbations are."""
    y, x = np.mgrid[:side, :side] / side * 2 * np.pi
    waves = [np.sin(5 * x + k) + np.cos(3 * y - k) + 0.5 * np.sin(9 * (x + y)) for k in range(3)]
    return (8 / 255 * np.sign(np.stack(waves))).astype(np.float32)


def sections() -> list[Section]:
    keep = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
    radii = tuple(round(0.05 * i, 2) for i in range(21))
    return [
        Audit(
            "Can this evaluation be trusted?",
            (
                Check("more steps", "PGD with 10, 40 and 160 steps", "12.0, 9.5, 9.0 % are left", "passed"),
                Check("a large eps", "eps = 0.5", "0.0 % are left", "passed"),
                Check(
                    "black box against white box",
                    "square, 1000 queries, on the images that stand",
                    "3 of 64 fall that PGD left",
                    "doubtful",
                    "use more restarts, or APGD with the margin loss",
                ),
                Check(
                    "gradient",
                    "its length at the clean images",
                    "exactly zero on 61 of 64 images",
                    "failed",
                    "declare a surface with a differentiable stand-in for the rounding",
                ),
            ),
            "Each check asks whether a weak attack was taken for a strong defence.",
        ),
        Rates(
            "What the patches are worth",
            "model",
            ("plain", "vit <held out>"),
            ("own patch", "own minus hijacked"),
            ((0.98, -0.01), (0.61, None)),
            ((0.96, -0.03), (0.55, None)),
            ((0.99, 0.01), (0.66, None)),
            p=((None, 0.8), (None, None)),
            says=("plain: its own patch helps, another's hijacks as much.",),
            note="Means over 4 corruptions.",
        ),
        Tradeoff(
            "How much of the image to keep",
            "share of patches kept",
            keep,
            (
                line("clean", tuple(1 - float(v) for v in falling(0.6, 4, keep))),
                line("pgd:eps=4/255", falling(0.7, 1.4, keep)),
            ),
            chosen=0.3,
            note="Less kept: less for an attack to work on, and less for the model to see.",
        ),
        Certified(
            "Proven by smoothing",
            "2",
            radii,
            (line("sigma 0.12", falling(0.9, 2.8, radii)), line("sigma 0.25", falling(0.82, 1.5, radii))),
            "Clopper-Pearson at 99.9 % for each image.",
        ),
        Universal(
            "One perturbation for all images",
            perturbation(),
            8 / 255,
            "inf",
            0.83,
            500,
            {"no entry": 0.41, "stop": 0.22, "yield": 0.08, "roundabout": 0.05, "other": 0.24},
        ),
        Matrix(
            "Who falls to what was made on whom",
            "made on",
            "tested on",
            ("plain", "hardened", "vit"),
            ("plain", "hardened", "vit"),
            ((0.02, 0.81, 0.66), (0.55, 0.61, 0.7), (0.48, 0.79, None)),
        ),
        Frontier(
            "What robustness costs",
            "forward passes per image",
            "accuracy under the worst attack",
            (
                Point("plain", 1.0, 0.02, 0.01, 0.04),
                Point("hardened", 1.0, 0.61, 0.57, 0.65),
                Point("jpeg in front", 1.05, 0.05, 0.03, 0.08),
                Point("eight votes", 8.0, 0.64, 0.6, 0.68),
                Point("denoiser", 21.0, 0.59, 0.55, 0.63),
            ),
        ),
    ]
