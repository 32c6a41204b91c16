"""What is left of networks that train.sh made: measure.py FOLDER PART NAME-SEED ...

Parts are noise, attacks, strong, corruptions, universal, few, camvid, depth and gradient. Each leaves a run in
FOLDER/runs/PART, or a line of JSON, and goes on where it was stopped. CAMVID names where CamVid lies.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

import vallum
from vallum.data import load_clips
from vallum.defences.depth_multitask.judging import constant_errors, depth_errors
from vallum.images import IGNORE
from vallum.threats import corruptions

SNR = (30, 20, 15, 10, 5)
EPS = (1, 2, 4)
PARTS = {
    "noise": [f"equal_energy:of=({name}),snr={snr}" for name in ("gaussian", "salt_pepper") for snr in SNR],
    "attacks": [
        *(f"fgsm:eps={eps:g}/255" for eps in (*EPS, 8, 16)),
        *(f"pgd:eps={eps:g}/255,steps=10" for eps in (0.5, *EPS)),
        *(f"pgd:eps=2/255,steps=10,loss={loss}" for loss in ("segpgd_cross_entropy", "cosine_cross_entropy")),
    ],
    "strong": [f"strong:eps={eps}/255,lowest=miou" for eps in (1, 2)],
    "corruptions": [f"{name}:severity=3" for name in corruptions.ALL],
}
IMAGES = {"attacks": 100, "strong": 16}
MOST = 128
FIT = "steps=16,images=96,batch_size=16,targets=0,data=npz:{folder}/data/train.npz"
PARTS["universal"] = [f"universal:eps=8/255,{aim}{FIT}" for aim in ("", "target=road,", "hide=person,")]
# For the controls: one noise of each kind and two attacks.
PARTS["few"] = [PARTS["noise"][2], PARTS["noise"][7], "fgsm:eps=4/255", *(f"pgd:eps={e}/255,steps=10" for e in (1, 2))]
PARTS["camvid"] = [PARTS["noise"][1], *PARTS["few"]]


def main() -> None:
    torch.set_num_threads(1)
    folder, part, names = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if part == "camvid":
        test = vallum.load_data(f"camvid:{os.environ['CAMVID']}?split=test", size="96x128")
    else:
        test = vallum.load_data(f"npz:{folder}/data/test.npz", task="segment")
    for name in names:
        source = str(folder / "models" / name)
        if part in PARTS:
            threats = [spec.replace("{folder}", str(folder)) for spec in PARTS[part]]
            out, count = folder / "runs" / part / name, IMAGES.get(part, MOST)
            run = vallum.evaluate({name: source}, test, threats, out=out, n=count, pictures=6, progress=False)
            print(name, {row["threat"]: round(row["value"], 4) for row in run.summary if row["metric"] == "mIoU"})
            continue
        file = folder / "runs" / f"{part}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and any(json.loads(line)["model"] == name for line in file.read_text().splitlines()):
            continue
        said = {"model": name, **{"depth": depth, "gradient": gradient}[part](source, folder, test)}
        with file.open("a") as lines:
            lines.write(json.dumps(said) + "\n")
        print(said)


def depth(source: str, folder: Path, test: vallum.data.Data) -> dict[str, float]:
    """How well the kept branch sees depth, on clips of the test split, beside the same depth everywhere."""
    seer = vallum.load_depth(source)
    clips = load_clips("builtin:streets?split=test&n=64")
    video = clips.batch(range(64))
    assert video.depth is not None
    with torch.no_grad():
        found = torch.cat([seer(part) for part in video.frames[:, 1].split(16)])
    constant = {f"constant_{name}": value for name, value in constant_errors(video.depth).items()}
    return {**depth_errors(found, video.depth), **constant}


def gradient(source: str, folder: Path, test: vallum.data.Data) -> dict[str, float]:
    """The mean over images of the L1 length of the loss's gradient by the image."""
    model, batch = vallum.load_model(source), test.batch(range(64))
    images = batch.images.requires_grad_()
    loss = F.cross_entropy(model(images), batch.labels, ignore_index=IGNORE, reduction="none").flatten(1).mean(1)
    (found,) = torch.autograd.grad(loss.sum(), images)
    return {"gradient_l1": float(found.abs().flatten(1).sum(1).mean()), "loss": float(loss.detach().mean())}


if __name__ == "__main__":
    main()
