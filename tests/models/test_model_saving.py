"""What is saved comes back bit for bit, without running anything that lies in the folder."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vallum.errors import UserError
from vallum.models import (
    MODEL_SOURCES,
    Model,
    Request,
    Wrapped,
    load_model,
    make_model,
    save_model,
    saved_facts,
    weights_fingerprint,
)
from vallum.models.sources import builtin
from vallum.specs import Source

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save_model(load_model("net:resnet?classes=4"), tmp_path / "saved")


def change(folder: Path, **facts: Any) -> None:
    card = folder / "vallum.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), **facts}))


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        ("net:resnet?classes=4", {"classes": ["a", "b", "c", "d"]}),
        ("net:vit?classes=4", {"mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1]}),
        ("timm:test_vit?img_size=32", {"classes": 7, "outputs": "probabilities"}),
        ("torchvision:squeezenet1_1?num_classes=4", {}),
        ("smp:Unet?encoder=resnet18&classes=3", {"mean": 0.5, "std": 0.25}),
    ],
)
def test_a_saved_model_comes_back_bit_for_bit(source: str, settings: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = load_model(source, **settings)
    for buffer in model.buffers():
        if buffer.is_floating_point() and buffer.numel() > 3:
            buffer.data.add_(0.01)  # running statistics are weights too
    folder = save_model(model, tmp_path / "saved", command="vallum harden ...", data="0123abcd")
    again = load_model(folder)
    for name in ("task", "classes", "size", "build"):
        assert getattr(again, name) == getattr(model, name)
    assert again.spec == str(folder)
    assert not again.training
    with torch.no_grad():
        assert torch.equal(again(IMAGES), model(IMAGES))
    assert weights_fingerprint(again) == weights_fingerprint(model)
    assert saved_facts(folder)["extra"] == {"command": "vallum harden ...", "data": "0123abcd"}
    assert saved_facts(folder)["versions"]["torch"] == torch.__version__
    assert sorted(path.name for path in folder.iterdir()) == ["vallum.json", "weights.safetensors"]


def test_half_precision_stays_half(tmp_path: Path) -> None:
    model = load_model("net:vit?classes=4").bfloat16()
    again = load_model(save_model(model, tmp_path / "half"))
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        assert torch.equal(again(IMAGES), model(IMAGES))


def test_a_loaded_model_can_be_saved_over_itself(folder: Path) -> None:
    model = load_model(folder)
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    save_model(model, folder)
    assert weights_fingerprint(load_model(folder)) == weights_fingerprint(model)


def test_what_the_caller_says_has_precedence(folder: Path) -> None:
    model = load_model(folder, mean=0.3, classes=["w", "x", "y", "z"])
    assert isinstance(model, Wrapped)
    assert model.mean.flatten().tolist() == pytest.approx([0.3])
    assert model.classes == ("w", "x", "y", "z")


def test_tied_weights_are_saved_twice_and_stay_tied(tmp_path: Path) -> None:
    code = (
        "from torch import nn\n"
        "def net():\n"
        "    made = nn.Sequential(nn.Flatten(), nn.Linear(8, 8), nn.Linear(8, 8))\n"
        "    made[2].weight = made[1].weight\n"
        "    return made\n"
    )
    (tmp_path / "tied.py").write_text(code)
    model = load_model(f"{tmp_path / 'tied.py'}:net")
    again = load_model(save_model(model, tmp_path / "saved"), trust=True)
    assert again.network[1].weight is again.network[2].weight  # type: ignore[union-attr,index]
    assert weights_fingerprint(again) == weights_fingerprint(model)


def test_a_model_made_in_python_needs_a_build(tmp_path: Path) -> None:
    network = load_model("net:resnet?classes=4").network
    model = load_model(network.eval())  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"was made in Python.*pass build="):
        save_model(model, tmp_path / "saved")
    folder = save_model(model, tmp_path / "saved", build="net:resnet?classes=4")
    with torch.no_grad():
        assert torch.equal(load_model(folder)(IMAGES), model(IMAGES))  # normalised as the model was, not as net: would


class Doubled(Model):
    """A model around a model, as a defence is one."""

    def __init__(self, inner: Model) -> None:
        super().__init__()
        self.inner, self.task, self.classes = inner, inner.task, inner.classes
        self.gain = nn.Parameter(torch.ones(()))
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images) * self.gain

    def facts(self) -> dict[str, Any]:
        inner = self.inner.facts()
        return {**inner, "build": str(Source("doubled", "", {"model": inner["build"]}))}


def test_a_model_around_a_model_nests_its_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_doubled(source: Source, request: Request) -> Model:
        return Doubled(make_model(source.options["model"], request))

    monkeypatch.setitem(MODEL_SOURCES._entries, "doubled", load_doubled)
    model = Doubled(Doubled(load_model("net:vit?classes=4&size=32", mean=0.4, std=0.3)))
    with torch.no_grad():
        model.gain.mul_(3)
    again = load_model(save_model(model, tmp_path / "saved"))
    assert isinstance(again, Doubled)
    with torch.no_grad():
        assert torch.equal(again(IMAGES), model(IMAGES))
    assert weights_fingerprint(again) == weights_fingerprint(model)
    (tmp_path / "own.py").write_text("")
    nested = Source("doubled", "", {"model": f"{tmp_path / 'own.py'}:net?a=1&b=50%"})
    change(tmp_path / "saved", build=str(nested))
    with pytest.raises(UserError, match="built by running code"):  # however deep the code is named
        load_model(tmp_path / "saved")


def test_code_in_a_folder_is_not_run_unless_trusted(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "own.py").write_text(
        f"open({str(trace)!r}, 'a').write('ran')\nfrom torch import nn\ndef net(): return nn.Flatten()\n"
    )
    folder = save_model(Wrapped(nn.Flatten()), tmp_path / "saved", build=f"{tmp_path / 'own.py'}:net")
    with pytest.raises(UserError, match=r"built by running code.*trust=True.*\?trust=true"):
        load_model(folder)
    assert not trace.exists()
    change(folder, build="os:getcwd")
    with pytest.raises(UserError, match="built by running code: os:getcwd"):
        load_model(folder)
    change(folder, build=f"{tmp_path / 'own.py'}:net")
    assert load_model(f"{folder}?trust=true").build.endswith("own.py:net")
    assert load_model(folder, trust=True).build.endswith("own.py:net")
    assert trace.read_text() == "ran"


def test_a_build_from_code_is_kept_as_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\ndef net(out=3): return nn.Sequential(nn.Flatten(), nn.Linear(8, out))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = save_model(load_model("own_net.py:net?out=2"), tmp_path / "saved")
    monkeypatch.chdir("/")
    assert load_model(folder, trust=True)(torch.zeros(1, 2, 2, 2)).shape == (1, 2)


@pytest.mark.parametrize("magic", ["zip", "pickle", "torch-old"])
def test_a_pickle_called_safetensors_is_refused(folder: Path, magic: str) -> None:
    weights = folder / "weights.safetensors"
    if magic == "pickle":
        import pickle

        weights.write_bytes(pickle.dumps({"a": 1}))
    else:
        torch.save({}, weights, _use_new_zipfile_serialization=magic == "zip")
    with pytest.raises(UserError, match="is a pickle: no pickle is loaded"):
        load_model(folder)


def test_damage_is_named(folder: Path, tmp_path: Path) -> None:
    def damaged(says: str) -> None:
        with pytest.raises(UserError, match=says):
            load_model(tmp_path / "copy")
        shutil.rmtree(tmp_path / "copy")
        shutil.copytree(folder, tmp_path / "copy")

    shutil.copytree(folder, tmp_path / "copy")
    copy = tmp_path / "copy"
    (copy / "vallum.json").write_text("{")
    damaged("vallum.json is damaged")
    (copy / "vallum.json").write_text("{}")
    damaged("vallum.json is damaged")
    change(copy, format=2)
    damaged("this vallum reads format 1")
    (copy / "weights.safetensors").unlink()
    damaged("there is no file .*weights.safetensors")
    (copy / "weights.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    damaged("cannot be read as safetensors")
    change(copy, build=str(folder))
    damaged("is named by another saved folder")
    change(copy, build="net:resnet?classes=5")
    damaged("do not fit the network")
    save_model(load_model("net:resnet?classes=4"), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "weights.safetensors", copy)
    damaged("not those that vallum.json describes")


def test_a_write_that_fails_leaves_the_old_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, content: bytes) -> None:
        path.write_text("half")
        raise OSError("no space left")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space"):
        save_model(load_model(folder), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_builtin_names_what_is_shipped(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "SHIPPED", tmp_path)
    assert builtin.builtin_names() == ["saved"]
    assert load_model("builtin:saved").spec == "builtin:saved"
    with pytest.raises(UserError, match="no built-in model is called 'sved': there are: saved"):
        load_model("builtin:sved")


def test_the_fingerprint_sees_names_types_shapes_and_bits() -> None:
    def of(**tensors: torch.Tensor) -> str:
        module = nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return weights_fingerprint(module)

    zeros = torch.zeros(2, 3)
    variants = [
        of(a=zeros),
        of(b=zeros),
        of(a=zeros.T.contiguous()),
        of(a=zeros.int()),
        of(a=-zeros),
        of(a=zeros, b=zeros),
        of(a=zeros.bfloat16()),
    ]
    assert len(set(variants)) == len(variants)
    assert of(a=zeros, b=zeros + 1) == of(b=zeros + 1, a=zeros)  # whatever the order
    assert of(a=torch.arange(6.0).view(2, 3).T) == of(a=torch.arange(6.0).view(2, 3).T.contiguous())
    assert of(a=torch.tensor(3)) != of(a=torch.tensor(4))


def test_the_fingerprint_sees_what_the_state_does_not_hold() -> None:
    network = nn.Flatten()
    wrapped = [
        Wrapped(network),
        Wrapped(network, mean=0.5),
        Wrapped(network, std=0.5),
        Wrapped(network, outputs="probabilities"),
        load_model(lambda images: images + 1),
        load_model(lambda images: images * 1),
        load_model(torch.relu),
        load_model(torch.tanh),
    ]
    prints = [weights_fingerprint(model) for model in wrapped]
    assert len(set(prints)) == len(prints)
    assert [one.endswith("+callable") for one in prints] == [False] * 4 + [True] * 4
    assert weights_fingerprint(Wrapped(network, mean=0.5)) == prints[1]


def test_weights_from_a_parallel_or_compiled_network_are_recognised(folder: Path, tmp_path: Path) -> None:
    network = load_model(folder).network
    for prefix in ("module.", "_orig_mod.", "model.", "module._orig_mod."):
        save_file({prefix + name: tensor for name, tensor in network.state_dict().items()}, tmp_path / "w.safetensors")  # type: ignore[operator,union-attr]
        again = load_model(f"net:resnet?classes=4&weights={tmp_path / 'w.safetensors'}")
        assert weights_fingerprint(again) == weights_fingerprint(load_model(folder))
