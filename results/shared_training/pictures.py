"""What universal perturbations look like: python results/shared_training/pictures.py FOLDER NAME=MODEL@EPS ..."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

import vallum
from vallum.specs import read_value
from vallum.threats.universal.portrait import portrait, save_picture

torch.set_num_threads(1)
folder = Path(sys.argv[1])
data = vallum.load_data("builtin:signs?split=val&n=2000")
shown = vallum.load_data("builtin:signs?split=test&n=500").batch(range(500))
said = {}
for text in sys.argv[2:]:
    name, _, rest = text.partition("=")
    where, _, eps = rest.partition("@")
    model = vallum.load_model(where)
    attack = vallum.threat(f"universal:eps={read_value(eps, float, name)!r},steps=48,images=1024,targets=1")
    ready = attack.fit(model, data)  # type: ignore[attr-defined]
    delta = ready.found.deltas[0]
    save_picture(delta, folder / f"{name}.png")
    moved = ready(model, shown.images, shown.labels, shown.keys)
    said[name] = {"eps": eps, "way": ready.found.facts["way"], **portrait(delta, model, shown, moved)}
    with torch.no_grad():
        said[name]["accuracy"] = float((model(moved).argmax(1) == shown.labels).double().mean())
    print(name, {k: v for k, v in said[name].items() if k != "answers"}, flush=True)
(folder / "pictures.json").write_text(json.dumps(said, indent=1) + "\n")
