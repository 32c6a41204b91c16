"""What people get wrong, one row each, and words of the line that tells them what to do."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import command
from vallum.models import load_model, save_model

NETS = """
import torch
from torch import nn

def of(outputs, inputs=192):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))

def two(): return of(2)
def three(): return of(3)
def small(): return of(2, 64)
def grey(): return nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
def soft(): return nn.Sequential(of(2), nn.Softmax(1))
def loud(): return nn.Sequential(of(2), nn.Threshold(-9.0, 0.0), nn.Softplus(0.05))
def lost(): return nn.Sequential(of(2), nn.Threshold(9.0, float("nan")))
def nothing(): return None
def asks(depth): return of(depth)
number = 3
"""


def photos(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), size: int = 8) -> Path:
    draws = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(draws.integers(0, 256, (size, size, 3), np.uint8)).save(folder / name / f"{i}.png")
    return folder


def change_card(folder: Path, **facts: Any) -> None:
    card = folder / "vallum.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), **facts}))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the rows name; only read."""
    at = tmp_path_factory.mktemp("bench")
    (at / "nets.py").write_text(NETS)
    (at / "text.txt").write_text("hello")
    (at / "empty").mkdir()
    photos(at / "photos")
    truncated = photos(at / "truncated") / "cat" / "0.png"
    truncated.write_bytes(truncated.read_bytes()[:40])
    (photos(at / "text") / "cat" / "0.png").write_text("<html>404</html>")
    (photos(at / "gap") / "zebra").mkdir()
    Image.new("RGB", (9, 9)).save(photos(at / "sizes") / "dog" / "9.png")

    pictures = np.random.default_rng(0).random((6, 3, 8, 8), np.float32)
    labels = np.arange(6) % 2
    blind = pictures.copy()
    blind[2, 0, 0, 0] = np.nan
    for name, arrays in {
        "unlabelled": {"images": pictures},
        "pickled": {"images": pictures, "labels": np.array([{}] * 6, dtype=object)},
        "bright": {"images": pictures * 255, "labels": labels},
        "normalised": {"images": pictures * 4 - 2, "labels": labels},
        "nan": {"images": blind, "labels": labels},
        "flat": {"images": pictures[0, 0], "labels": labels},
        "halves": {"images": pictures, "labels": labels + 0.5},
        "below": {"images": pictures, "labels": labels - 1},
        "short": {"images": pictures, "labels": labels[:3]},
        "none": {"images": pictures[:0], "labels": labels[:0]},
    }.items():
        np.savez(at / f"{name}.npz", **arrays)
    (at / "torn.npz").write_bytes((at / "nan.npz").read_bytes()[:300])

    torch.manual_seed(0)
    model = load_model("net:resnet?classes=2")
    torch.save(model.state_dict(), at / "net.pt")
    for name in ("saved", "bomb", "newer", "odd", "cut", "torn", "flipped"):
        save_model(model, at / name)
    (at / "bomb" / "weights.safetensors").write_bytes(pickle.dumps({"a": 1}))
    change_card(at / "newer", format=2)
    change_card(at / "odd", mean="dark")
    (at / "cut" / "vallum.json").write_text('{"format"')
    weights = (at / "saved" / "weights.safetensors").read_bytes()
    (at / "torn" / "weights.safetensors").write_bytes(weights[:1000])
    middle = len(weights) // 2
    (at / "flipped" / "weights.safetensors").write_bytes(
        weights[:middle] + bytes([weights[middle] ^ 255]) + weights[middle + 1 :]
    )
    ran = ("evaluate", f"{at}/nets.py:two", "--data", at / "photos", "--threat", "gaussian:std=0.1", "--workers", 1)
    assert command(*ran, "--out", at / "run", "--quiet").code == 0
    return at


# What is said in place of what is right, and words of the answer. All of it is tried in the folder above.
EVALUATE: dict[str, tuple[dict[str, Any], str]] = {
    # files
    "no such model": ({"model": "nothere"}, "there is no folder nothere: a model comes from a saved folder, FILE.py"),
    "no such file of code": ({"model": "nothere.py:two"}, "there is no file nothere.py; check the path"),
    "no such weights": ({"model": "net:resnet?classes=2&weights=x.safetensors"}, "there is no file x.safetensors"),
    "no model at all": ({"model": ""}, "'' has an empty name"),
    "a name that no disk takes": ({"model": "x" * 300}, "there is no folder xxx"),
    "a newline in a name": ({"model": "a\nb"}, "there is no folder a\\nb"),
    "photos as a model": ({"model": "photos"}, "photos holds no vallum.json"),
    "no such data": ({"--data": "nothere"}, "nothere does not exist: a folder, a zip, an .npz file, or a source"),
    "no such npz": ({"--data": "npz:nothere.npz"}, "nothere.npz does not exist"),
    "no data at all": ({"--data": ""}, "the empty string does not exist"),
    "an empty folder": ({"--data": "empty"}, "empty holds no pictures: PNG, JPEG"),
    "an empty class": ({"--data": "gap"}, "gap/zebra holds no pictures: a class folder holds at least one"),
    "a file where a folder belongs": ({"--data": "folder:text.txt"}, "text.txt is neither a folder nor a zip"),
    "a folder where a file belongs": ({"--data": "npz:photos"}, "photos cannot be read"),
    "a truncated image": ({"--data": "truncated"}, "truncated/cat/0.png cannot be decoded"),
    "text called .png": ({"--data": "text"}, "replace it, delete it, or go on without it: on_error=skip"),
    "a torn npz": ({"--data": "torn.npz"}, "save it again"),
    "an npz with pickles": ({"--data": "pickled.npz"}, "labels in pickled.npz holds Python objects"),
    "an npz without labels": ({"--data": "unlabelled.npz"}, "numpy.savez(FILE, images=..., labels=...)"),
    "an option that folders do not have": (
        {"--data": "photos?sise=8"},
        "folder: has no option 'sise'; did you mean size",
    ),
    "an option without a value": ({"--data": "photos?size"}, "options follow ? as name=value"),
    "a source misspelt": ({"--data": "foldr:photos"}, "did you mean folder?"),
    "a world misspelt": ({"--data": "builtin:sign"}, "did you mean signs?"),
    # models from elsewhere
    "a checkpoint": ({"model": "net.pt"}, "no pickle is loaded, because loading one can run any code"),
    "a checkpoint as weights": ({"model": "net:resnet?classes=2&weights=net.pt"}, "convert it with safetensors"),
    "a pickle that calls itself safetensors": ({"model": "bomb"}, "bomb/weights.safetensors is a pickle"),
    "weights without a network": ({"model": "saved/weights.safetensors"}, "name the network too, as timm:resnet18?"),
    "weights of another net": (
        {"model": "net:resnet?classes=3&weights=saved/weights.safetensors"},
        "name the architecture and the number of classes",
    ),
    "a folder of a newer vallum": ({"model": "newer"}, "has format 2: this vallum reads format 1"),
    "a card with a word for a number": ({"model": "odd"}, "odd/vallum.json is damaged: mean is 'dark'"),
    "half a card": ({"model": "cut"}, "cut/vallum.json is damaged"),
    "half the weights": ({"model": "torn"}, "torn/weights.safetensors cannot be read as safetensors"),
    "one byte of the weights": (
        {"model": "flipped"},
        "the weights in flipped are not those that vallum.json describes",
    ),
    "a net misspelt": ({"model": "net:resnt?classes=2"}, "did you mean resnet?"),
    "a net without classes": ({"model": "net:resnet"}, "write net:resnet?classes=43"),
    "a source of models misspelt": ({"model": "tim:resnet18"}, "did you mean timm?"),
    "a file of code alone": ({"model": "nets.py"}, "write nets.py:function"),
    "a function misspelt": ({"model": "nets.py:tow"}, "nets.py has no 'tow'; did you mean two?"),
    "a function that returns nothing": ({"model": "nets.py:nothing"}, "returns a NoneType"),
    "a function that asks for more": ({"model": "nets.py:asks"}, "missing a required argument: 'depth'"),
    "a number for a function": ({"model": "nets.py:number"}, "nets.py:number is an int"),
    "two of one name": ({"model": ["a=nets.py:two", "a=nets.py:soft"]}, "name them: first=SOURCE second=SOURCE"),
    "an empty name": ({"model": "=nets.py:two"}, "write NAME=SOURCE"),
    "a name without a source": ({"model": "a="}, "the name of a model is empty"),
    # threats
    "no such threat": ({"--threat": "pgx:eps=8/255"}, "no threat is called 'pgx'; did you mean pgd"),
    "an empty threat": ({"--threat": ""}, "no threat is called ''"),
    "no such parameter": ({"--threat": "pgd:epz=8/255"}, "did you mean eps?"),
    "a missing parameter": ({"--threat": "pgd"}, "'pgd' lacks eps; it takes eps=?, norm=inf"),
    "a parameter twice": ({"--threat": "pgd:eps=0.1,eps=0.2"}, "gives eps twice; keep one"),
    "an empty parameter": ({"--threat": "pgd:eps="}, "write parameter=value, separated by commas"),
    "a word for a number": ({"--threat": "pgd:eps=small"}, "a number, as 0.1 or 8/255"),
    "eps in units of pixels": ({"--threat": "pgd:eps=8"}, "images are in [0, 1]; write eps=8/255"),
    "a negative eps": ({"--threat": "pgd:eps=-1/255"}, "a radius is finite and not negative"),
    "eps that is no number": ({"--threat": "pgd:eps=nan"}, "a number, as 0.1 or 8/255"),
    "eps without end": ({"--threat": "pgd:eps=inf"}, "a radius is finite"),
    "eps over zero": ({"--threat": "pgd:eps=8/0"}, "a number, as 0.1 or 8/255"),
    "no steps": ({"--threat": "pgd:eps=0.1,steps=0"}, "steps=0: at least 1 is needed"),
    "half a step": ({"--threat": "pgd:eps=0.1,steps=1.5"}, "a whole number"),
    "a norm that is none": ({"--threat": "pgd:eps=0.1,norm=3"}, "one of inf, 2, 1"),
    "an open bracket": ({"--threat": "pgd:eps=(0.1"}, "the brackets in 'pgd:eps=(0.1' do not match"),
    "noise without a strength": ({"--threat": "gaussian"}, "write gaussian:std=0.1 or gaussian:snr=20"),
    "a severity beyond the scale": ({"--threat": "fog:9"}, "it lies between 1 and 5"),
    "a chain that ends in nothing": ({"--threat": "fog:3+"}, "write fog:3+jpeg:2"),
    # what images and labels hold
    "pixels up to 255": ({"--data": "bright.npz"}, "divide them by 255"),
    "normalised pixels": (
        {"--data": "normalised.npz"},
        "take the normalisation out of the data and give it to the model",
    ),
    "pixels that are no number": ({"--data": "nan.npz"}, "image 2 of nan.npz holds NaN or infinity"),
    "one plane": ({"--data": "flat.npz"}, "(N, H, W, C) or (N, C, H, W)"),
    "images of several sizes": ({"--data": "sizes"}, "give one size: --size 224"),
    "no images": ({"--data": "none.npz"}, "none.npz holds no image"),
    "labels that are no whole numbers": ({"--data": "halves.npz"}, "one whole number, the class"),
    "labels below zero": ({"--data": "below.npz"}, "has label -1"),
    "fewer labels than images": ({"--data": "short.npz"}, "give each image one label"),
    "nothing but broken images": ({"--data": "broken", "--on-error": "skip"}, "none of the 6 images could be read"),
    # how images and model fit
    "fewer classes than the data": ({"--data": "photos", "model": "nets.py:three"}, "the data have 2"),
    "too few names of classes": ({"--data": "photos?classes=cat"}, "which is none of the 1 classes"),
    "another number of classes": ({"--classes": 3}, "the model has 2 outputs, and its classes name 3"),
    "a model for other sizes": ({"model": "nets.py:small"}, "load the data with the size and the channels that it was"),
    "a model for grey images": ({"model": "nets.py:grey"}, "as size=224 or channels=1"),
    "probabilities": ({"model": "nets.py:soft"}, "remove the softmax, or load the model with outputs='probabilities'"),
    "logits called probabilities": ({"model": "nets.py:loud", "--outputs": "probabilities"}, "leave outputs= out"),
    "outputs that are no numbers": ({"model": "nets.py:lost"}, "the model's logits hold NaN or infinity"),
    "outputs of no kind": ({"--outputs": "words"}, "one of 'logits', 'probabilities'"),
    "a segmenter of photos": ({"--task": "segment"}, "has no images/ with masks/"),
    "a task of no kind": ({"--task": "guess"}, "one of 'classify', 'segment'"),
    "two means for three channels": ({"--mean": "0.5,0.5"}, "give other mean= and std="),
    "a mean in words": ({"--mean": "half"}, "--mean is 'half': a number"),
    "a mean in units of pixels": ({"--mean": "123,117,104"}, "divide by 255"),
    "a spread of zero": ({"--std": "0"}, "pass the standard deviation per channel"),
    # how it runs
    "a GPU where there is none": ({"--device": "cuda:63"}, "device 'cuda:63' cannot be used"),
    "a device that computes nothing": ({"--device": "meta"}, "`vallum doctor` lists devices"),
    "a device of no kind": ({"--device": "gpu"}, "device 'gpu' cannot be used: Expected one of cpu, cuda"),
    "more images than there are": ({"-n": 1000}, "the data set has 6; leave n out for all of them"),
    "no images wanted": ({"-n": 0}, "n=0 images are asked for"),
    "fewer than no images": ({"-n": -5}, "n=-5 images are asked for"),
    "batches of nothing": ({"--batch-size": 0}, "batch_size=0: at least 1 is needed"),
    "a worker too few": ({"--workers": -1}, "workers=-1: 0 or more is needed"),
    "no threads": ({"--threads": 0}, "threads=0: at least 1 is needed"),
    "a negative seed": ({"--seed": -1}, "seed=-1: 0 or more is needed"),
    "a size of letters": ({"--size": "big"}, "write 224 or 64x192"),
    "a size of zero": ({"--size": 0}, "one positive number, or height and width"),
    "neither stop nor skip": ({"--on-error": "ignore"}, "one of stop, skip"),
    # where it writes
    "a file as the run's folder": ({"--out": "text.txt"}, "text.txt cannot be written"),
    "a file on the way to it": ({"--out": "text.txt/run"}, "text.txt/run cannot be written"),
    "a folder that nobody can make": ({"--out": "/proc/run"}, "/proc/run cannot be written"),
    "a name too long": ({"--out": "x" * 300}, "File name too long"),
    "the folder of another run": ({"--out": "run", "--seed": 1}, "choose another --out"),
}


@pytest.mark.parametrize("row", EVALUATE)
def test_evaluate_says_what_is_wrong(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    said, words = EVALUATE[row]
    monkeypatch.chdir(bench)
    if said.get("--data") == "broken":
        for picture in photos(tmp_path / "broken").rglob("*.png"):
            picture.write_text("x")
        said = {**said, "--data": tmp_path / "broken"}
    right = {"--data": "photos", "--threat": "gaussian:std=0.1", "--out": tmp_path / "out", "--workers": 1}
    models = said.get("model", "nets.py:two")
    options = {**right, **{name: value for name, value in said.items() if name != "model"}}
    flat = [part for option in options.items() for part in option]
    command("evaluate", *([models] if isinstance(models, str) else models), *flat).refuses(words)


OTHERS: dict[str, tuple[list[str], str]] = {
    "results of no run": (["results", "photos"], "photos holds no run: there is no plan.json"),
    "a report of no run": (["report", "nothere"], "name what `vallum evaluate` gave as --out"),
    "a report onto a folder": (["report", "run", "--out", "photos"], "write photos/report.html"),
    "a report to nowhere": (["report", "run", "--out", "text.txt/x.html"], "text.txt/x.html cannot be written"),
    "half a query": (["results", "run", "--sql", "SELEC"], "that SQL cannot be run: Parser Error"),
    "no query": (["results", "run", "--sql", ""], 'write "SELECT * FROM rows LIMIT 5"'),
    "no such column": (["results", "run", "--sql", "SELECT colour FROM rows"], "its columns model, threat, surface"),
    "no such table": (["results", "run", "--sql", "SELECT * FROM images"], "the table is `rows`"),
    "a value that is no number": (
        ["results", "run", "--sql", "SELECT CAST(name AS INT) FROM rows"],
        "Could not convert",
    ),
    "training without end": (["train", "net:resnet", "--epochs", "0"], "epochs=0: at least 1 is needed"),
    "a rate in words": (["train", "net:resnet", "--lr", "fast"], "--lr is 'fast': a number"),
    "more devices than there are": (["train", "net:resnet", "--devices", "99999"], "this machine has"),
    "no such recipe": (["train", "net:resnet", "--recipe", "advrsarial"], "did you mean adversarial?"),
    "no such defence": (["harden", "net:resnet", "--with", "advrsarial"], "did you mean adversarial?"),
    "a defence at eps=8": (["harden", "net:resnet", "--with", "adversarial:eps=8"], "write eps=8/255"),
    "all images to validate": (["train", "net:resnet", "--validation", "5"], "write validation=0.1"),
}


@pytest.mark.parametrize("row", OTHERS)
def test_the_other_commands_say_what_is_wrong(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    arguments, words = OTHERS[row]
    monkeypatch.chdir(bench)
    if arguments[0] in ("train", "harden"):
        arguments = [*arguments, "--data", "photos?size=32", "--out", str(tmp_path / "out")]
    command(*arguments).refuses(words)


@pytest.mark.parametrize(
    "line",
    ["nonsense", "evaluate", "evaluate x --nope", "evaluate x -n many", "list nonsense", "results x --format xml"],
)
def test_what_is_no_command_is_answered_with_its_usage(line: str) -> None:
    said = command(*line.split())
    assert said.code == 2
    assert "Usage: vallum" in said.err
    assert "Traceback" not in said.err


def test_a_fault_of_ours_shows_its_traceback(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vallum.cli.table.print_run", None)  # which vallum's own code then calls
    said = command("results", bench / "run")
    assert said.code == 1
    assert "Traceback" in said.err
    assert "TypeError: 'NoneType' object is not callable" in said.err


def test_exit_codes_of_a_process(bench: Path) -> None:
    """What the interpreter makes of it, in a process of its own."""
    mistake = subprocess.run([sys.executable, "-m", "vallum", "results", bench], capture_output=True, text=True)
    assert mistake.returncode == 2
    assert mistake.stderr.startswith("vallum: ")
    assert mistake.stderr.count("\n") == 1
    broken = "import vallum.evaluation.run as run; run.Run = None; import vallum.cli as cli; cli.main()"
    fault = subprocess.run([sys.executable, "-c", broken, "results", bench], capture_output=True, text=True)
    assert fault.returncode == 1
    assert "Traceback" in fault.stderr
