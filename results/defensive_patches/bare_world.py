"""The same comparison where nothing is ever around an object: python bare_world.py OUT.json. A minute of one core.

Small nets learn six glyphs on an even ground (the world of the tests), and so have never seen a ring. What patches do
to them is the other end of what they do to nets of `signs`, where something is always around a sign.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from compare import ATTACK, CORRUPTIONS, cell, judge, said

from vallum.defences.defensive_patches import make_patches
from vallum.defences.defensive_patches.wearing import Grey, Nothing
from vallum.threats import threat

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/defences/defensive_patches"))
from patch_toys import toy_data, toy_model

MAKERS = {
    "ensemble": "ensemble", "unadversarial": "unadversarial", "minmax": "minmax:eps=16/255", "universal": "universal",
    "consensus-mean": "consensus:merge=mean,times=8", "consensus-gram": "consensus:merge=gram,times=8",
    **{f"selective{b}": f"selective:wrong={b},alone=0.3" for b in ("0", "0.1", "0.3", "1", "3")},
    **{f"wrong{b}": f"selective:wrong={b},alone=0" for b in ("0", "0.1", "0.3", "1", "3")},
}  # fmt: skip
EPS = 16


def known(out: str) -> dict:
    """What was measured before: it is left as it is."""
    return json.loads(Path(out).read_text()) if Path(out).is_file() else {}


def main(out: str) -> None:
    torch.set_num_threads(1)
    models = {"net a": toy_model(0), "net b": toy_model(1), "net c, held out": toy_model(2, width=8)}
    sources, data = {name: models[name] for name in ("net a", "net b")}, toy_data(600, seed=3)
    batch, few, results, bare = toy_data(300, seed=5).batch(range(300)), 100, known(out), {}
    labels = batch.labels.numpy()
    for name, maker in MAKERS.items():
        if name in results:
            continue
        began = time.process_time()
        chosen = {"net a": models["net a"]} if name == "unadversarial" else sources
        patches = make_patches(chosen, data, maker, shape="ring:outer=14,inner=10", steps=200, looks=4, quiet=True)
        if not bare:
            answers = said(models, batch, Nothing(patches), ("clean", *CORRUPTIONS))
            grey = said(models, batch, Grey(patches), CORRUPTIONS)
            attack, results["none"] = threat(ATTACK.format(eps=EPS)), {}
            for net, model in models.items():
                fallen = attack(model, batch.images[:few], batch.labels[:few], batch.keys[:few])
                left = (model(fallen).argmax(1) == batch.labels[:few]).double().numpy()
                right = (answers[net][1:] == labels).mean(0)
                bare[net] = {"right": right, "left": left}
                results["none"][net] = {
                    "clean": cell(answers[net][0] == labels),
                    "own": cell(right),
                    "attacked": cell(left),
                    "grey": cell((grey[net] == labels).mean(0)),
                }
        results[name] = {**judge(patches, models, batch, few, EPS, bare), "passes": patches.made["passes"]}
        Path(out).write_text(json.dumps(results, indent=1))
        print(f"{name}: {time.process_time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
