"""The pictures: who hijacks whom, made on whom and right on whom, and what becomes of a patch that is not as it was."""

from __future__ import annotations

import numpy as np

from vallum.evaluation.patches.counting import CLEAN, Counting
from vallum.evaluation.patches.parts import PEELED, ROTATIONS, SCALES, SHIFTS, at_radii
from vallum.evaluation.patches.tables import sets
from vallum.evaluation.sections import Frontier, Matrix, Point, Tradeoff

Values = tuple[tuple[float | None, ...], ...]


def matrices(c: Counting) -> list[Matrix]:
    """Object class by patch class: how often the patch's class is answered, and how often still the object's."""
    classes, made = c.wanted.patches.classes, []
    for who, models in c.groups.items():
        found = [one for model in models if (one := c.part("each-patch").get((model, CLEAN))) is not None]
        if not found:
            continue
        labels, worn = found[0].labels, found[0].keys % len(classes)
        taken = np.mean([one.said == worn for one in found], 0)
        right = np.mean([one.right for one in found], 0)
        for title, each in (("Taken for the patch's class", taken), ("Taken for what it is", right)):
            values = tuple(
                tuple(_mean(each[(labels == row) & (worn == column)]) for column in range(len(classes)))
                for row in range(len(classes))
            )
            images = len(labels) // len(classes)
            note = (
                f"Mean over {', '.join(models)}; {images} clean images, each with each patch: the diagonal is its own."
            )
            made.append(Matrix(f"{title}: models {who}", "object", "patch", classes, classes, values, note=note))
    return made


def by_corruption(c: Counting) -> Matrix:
    """One by one, for a mean hides where a gain comes from."""
    columns: list[str] = []
    rows: list[list[float | None]] = [[] for _ in (CLEAN, *c.corrupted)]
    for who, models in c.groups.items():
        for name, part in (("own patch", "own"), ("no patch", "none"), ("patch alone", "alone")):
            columns.append(f"{name}, {who}")
            for row, spec in zip(rows, (CLEAN, *c.corrupted), strict=True):
                row.append(_mean(c.over(models, lambda m, p=part, s=spec: c.right(p, m, [s]))))  # type: ignore[misc]
        columns.append(f"hijacked, {who}")
        for row, spec in zip(rows, (CLEAN, *c.corrupted), strict=True):
            row.append(_mean(c.over(models, lambda m, s=spec: c.hijacked("wrong", m, [s]))))  # type: ignore[misc]
    named = (CLEAN, *c.corrupted)
    return Matrix("Corruption by corruption", "corruption", "worn", named, tuple(columns), tuple(map(tuple, rows)))


def transfer(c: Counting) -> Matrix | None:
    """Made on whom, right on whom, under corruptions: the row of all but one, at that one, is what transfers."""
    rows = {"no patch": "none", "these": "own", **{name: f"{name}-own" for name in c.wanted.beside}}
    rows |= {f"all but {name}": f"without {name}-own" for name in c.models}
    values: dict[str, tuple[float | None, ...]] = {
        name: tuple(_mean(c.right(part, model, c.corrupted)) for model in c.models)
        for name, part in rows.items()
        if c.part(part)
    }
    if len(values) < 3:
        return None
    title, note = "Transfer: made on whom, right on whom", c.images(c.corrupted)
    return Matrix(title, "made on", "model", tuple(values), tuple(c.columns), tuple(values.values()), note=note)


def front(c: Counting) -> Frontier | None:
    """Sets of patches by what they gain and what they pass off, on the models that they were made on."""
    found = sets(c)
    if found is None:
        return None
    own, hijack = found.columns.index("own patch"), found.columns.index("hijacked")
    points = []
    for place, name in enumerate(found.rows):
        if name.endswith(", held out") or found.values[place][hijack] is None:
            continue
        value, low, high = (numbers[place][own] for numbers in (found.values, found.low, found.high))
        cost = found.values[place][hijack]
        if value is not None and cost is not None:
            points.append(Point(name.removesuffix(", made on"), cost, value, low, high))
    cost_is, benefit_is = "hijacked by another's patch, as a share", "right with its own patch, corrupted"
    return Frontier("Accuracy against hijack", cost_is, benefit_is, tuple(points), note=found.note)


def by_radius(c: Counting) -> Tradeoff | None:
    """The attack at several radii, with a patch and without."""
    if not c.wanted.radii:
        return None
    specs = {float(one.eps): one.spec for one in at_radii(c.wanted.attack, c.wanted.radii)}  # type: ignore[attr-defined]
    lines = []
    for what, part in (("own patch", "own"), ("no patch", "none")):
        points = [(part, CLEAN), *((f"{part}-attacked", specs[radius]) for radius in sorted(specs))]
        lines += [c.line(f"{c.called(model)}, {what}", points, model) for model in c.models]
    there = tuple(one for one in lines if one is not None)
    note = "At a large radius nothing may be left: else the attack is weak, not the patch strong."
    axis = (0.0, *(255 * one for one in sorted(specs)))
    return Tradeoff("Attack on all pixels, by its radius", "eps in 1/255", axis, there, note=note) if there else None


def disturbed(c: Counting) -> list[Tradeoff]:
    """A patch that is not where it should be, or not whole."""
    said = {
        "shift": ("Patch shifted", "32nds of the image's side", 0.0, SHIFTS),
        "rotation": ("Patch turned", "degrees", 0.0, ROTATIONS),
        "scale": ("Patch larger or smaller", "times", 1.0, SCALES),
        "peeled": ("Part of the patch gone", "share of it", 0.0, PEELED),
    }
    bare = ", ".join(
        f"{m} {100 * one.mean():.1f} %" for m in c.models if (one := c.right("none", m, [CLEAN])) is not None
    )
    made = []
    for by, (title, knob, untouched, amounts) in said.items():
        axis = tuple(sorted({untouched, *amounts}))
        lines = [
            c.line(
                f"{c.called(model)}, {spec}",
                [("own" if at == untouched else f"{by}-{at:g}", spec) for at in axis],
                model,
            )
            for spec in (CLEAN, *c.corrupted[:1])
            for model in c.models
        ]
        there = tuple(one for one in lines if one is not None)
        if there:
            note = f"With its own patch, {c.wanted.few} images. Clean and without any patch: {bare}."
            made.append(Tradeoff(title, knob, axis, there, untouched, note))
    return made


def _mean(values: np.ndarray | None) -> float | None:
    return None if values is None or not len(values) else round(float(values.mean()), 4)
