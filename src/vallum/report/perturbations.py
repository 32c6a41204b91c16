"""What was fitted in a run as sections: universal perturbations with picture, spectrum and favourite classes."""

from __future__ import annotations

from safetensors import safe_open

from vallum.evaluation.run import Run
from vallum.evaluation.sections import Universal

NOTE = "What it does was seen on images that it was fitted on; the table above has what it leaves of others."


def fitted(run: Run, called: dict[str, str]) -> list[Universal]:
    """One for each model, surface and fold; `called` is what the report calls the models."""
    found = []
    for facts in run.perturbations:
        with safe_open(facts["path"], "np") as file:
            deltas, norm, eps = file.get_tensor("deltas"), file.metadata()["norm"], float(file.metadata()["eps"])
        for number, (delta, fold) in enumerate(zip(deltas, facts["folds"], strict=True), 1):
            of = f"{facts['threat']} on {called[facts['model']]}, {facts['surface']}"
            title = of if len(deltas) == 1 else f"{of}, {number} of {len(deltas)}"
            answers = {name: share for name, share in fold["answers"].items() if share}
            # A segmenter answers for each pixel: an interval over images would be of something else.
            images = fold["shown on"] if run.plan.task == "classify" else 0
            found.append(Universal(title, delta, eps, norm, fold["changed"], images, answers, NOTE))
    return found
