"""What a training has bought: the short evaluation that `vallum harden` ends with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from vallum.models.model import Model
from vallum.specs import Source

DEAR = 16.0  # times what an attack on a bare model takes: from there on less is done
FEW = 24  # images of a model that is dear to attack
LEAST = 8  # held-out images, half of which universal perturbations are fitted on
USUAL = "eps=4/255,norm=inf"  # the ball of attacks where a recipe has none of its own


def started_from(network: Model) -> Model | None:
    """A copy of what a training starts from, to be measured beside what it ends with; none of a net without weights."""
    build = Source.parse(network.spec or network.build)
    if build.scheme == "net" and "weights" not in build.options:
        return None
    return copy.deepcopy(network).cpu()


def evaluate(
    before: Model | None, network: Model, watched: Any, recipe: Any, out: Path, *, n: int, seed: int, device: str,
    quiet: bool,
) -> None:  # fmt: skip
    """Both on images that were held out: clean, under noise, under an attack per image and under one for all of them.

    The attacks have the radius that the recipe trains against. Beneath the table stands what is not in it, and why.
    """
    import vallum
    from vallum.cli.table import print_run, print_text

    held = 0 if watched is None else len(watched)
    if held < LEAST:
        if not quiet:
            print_text(f"No evaluation: {held} images are held out, {LEAST} are needed; --validation holds out more.")
        return
    probe = recipe.probe()
    own = probe is not None and probe.budget is not None
    ball = f"eps={float(probe.budget.eps)!r},norm={probe.budget.norm.name}" if own else USUAL
    price = _price(network, watched)
    dear = price >= DEAR
    fitted = not dear and not ball.endswith("norm=1")
    threats = ["gaussian:std=0.1", f"pgd:{ball},steps={10 if dear else 20}"]
    if fitted:
        threats.append(f"universal:{ball},steps=48")
    most = min(FEW, held) if dear else held // 2 if fitted else held
    run = vallum.evaluate(
        {**({} if before is None else {"before": before}), "hardened": network},
        watched,
        threats,
        out=out / "evaluation",
        n=min(n, most),
        seed=seed,
        device=device,
        progress=not quiet,
    )
    if quiet:
        return
    print_run(run)
    said = []
    if before is None:
        said.append("there is no column `before`: the network that was trained had learnt nothing yet")
    if any(model.name == "hardened, undefended" for model in run.plan.models):
        said.append("`hardened, undefended` is the model beneath the defence, as it is after the training")
    if not own:
        said.append("the recipe has no radius of its own: attacks have 4/255")
    long = f"an attack through all its surfaces takes about {price:.0f} times what it takes on a bare model"
    if dear:
        said.append(f"no universal attack was run: {long}")
    elif not fitted:
        said.append("no universal attack was run: there is none in the norm 1")
    if most < n:
        why = "there are no more" if most == held else long if dear else "on the others the universal attack is fitted"
        said.append(f"{most} of the {held} held-out images were evaluated, and not {n}: {why}")
    for line in said:
        print_text(f"{line}.")


def _price(network: Model, watched: Any) -> float:
    """How many times the passes of a bare model an attack through all surfaces takes, about."""
    from vallum.defences import Defence
    from vallum.defences.base import surfaces_of
    from vallum.evaluation.measure import fresh

    if not isinstance(network, Defence):
        return 1.0
    images = watched.batch(range(8)).images
    passes = fresh(network, network).cost(images.to(network.device)).passes if len(images) else 1.0
    return passes * sum(surface.weight for surface in surfaces_of(network, thorough=False))
