"""Python objects and the user's own code as models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vallum.defences  # noqa: F401  its import registers sources of models with a defence
from vallum.errors import UserError
from vallum.images import Task
from vallum.models import MODEL_SOURCES, Model, Wrapped, load_model
from vallum.models.request import guess_value

IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))

CODE = """
from __future__ import annotations
import torch
from torch import nn
from vallum.models import Model

def net(classes=4, width=8, act: str = "relu", bias: bool = True, scale=1.0):
    torch.manual_seed(0)
    made = nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.ReLU(), nn.Linear(width, classes, bias=bias))
    made.said = (classes, width, act, bias, scale)
    return made

class Own(Model):
    classes = ("cat", "dog")
    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
    def forward(self, images):
        return images.flatten(1)[:, :2] * self.gain

class Holder:
    @staticmethod
    def make():
        return net()

ready = net()
number = 3
def nothing(): return None
def predict(images): return images
def broken(): raise RuntimeError("from inside")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module and a package in it."""
    name = f"own_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(CODE)
    (tmp_path / f"{name}_pkg").mkdir()
    (tmp_path / f"{name}_pkg" / "__init__.py").write_text("")
    (tmp_path / f"{name}_pkg" / "nets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path / f"{name}.py"


def test_a_module_is_wrapped_and_keeps_its_mode() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    model = load_model(network, mean=[0.5] * 3, std=[0.25] * 3, classes=["a", "b", "c", "d"])
    assert isinstance(model, Wrapped)
    assert (model.training, model.spec, model.build, model.classes) == (True, "", "", ("a", "b", "c", "d"))
    assert torch.equal(model(IMAGES), network((IMAGES - 0.5) / 0.25))


def test_a_model_comes_back_as_it_is() -> None:
    model = Wrapped(nn.Flatten(), mean=0.5, task=Task.CLASSIFY)
    assert load_model(model) is model
    assert load_model(model, classes=48) is model
    assert model.classes is not None
    for settings in ({"mean": 0.1}, {"std": 0.1}, {"task": "segment"}, {"outputs": "probabilities"}, {"classes": 3}):
        with pytest.raises(UserError, match="has its own"):
            load_model(model, **settings)  # type: ignore[arg-type]
    assert load_model(model, task="classify", classes=48) is model


def test_a_callable_is_a_model() -> None:
    def last_pixels(images: Tensor) -> Any:
        return {"logits": images.flatten(1)[:, -5:]}

    model = load_model(last_pixels, std=0.5)
    assert not any(module.training for module in model.modules())
    assert torch.equal(model(IMAGES), IMAGES.flatten(1)[:, -5:] / 0.5)


@pytest.mark.parametrize("form", ["{file}:net", "{module}:net", "python:{module}:net", "{module}_pkg.nets:net"])
def test_a_function_of_the_users_makes_the_model(here: Path, form: str) -> None:
    text = form.format(file=here, module=here.stem)
    model = load_model(text)
    assert model.spec == text
    assert not any(module.training for module in model.modules())
    assert model(IMAGES).shape == (2, 4)


def test_a_file_may_be_named_relative_to_the_current_directory(here: Path) -> None:
    assert load_model(f"{here.name}:net")(IMAGES).shape == (2, 4)


def test_options_become_arguments(here: Path) -> None:
    model = load_model(f"{here}:net?classes=3&width=5&act=12&bias=false&scale=0.5")
    assert isinstance(model, Wrapped)
    assert model.network.said == (3, 5, "12", False, 0.5)
    assert type(model.network.said[0]) is int


def test_a_class_a_static_method_and_a_ready_module_do_too(here: Path) -> None:
    own = load_model(f"{here}:Own?gain=2.0")
    assert isinstance(own, Model)
    assert own.classes == ("cat", "dog")
    assert torch.equal(own(IMAGES), IMAGES.flatten(1)[:, :2] * 2)
    assert load_model(f"{here}:Holder.make")(IMAGES).shape == (2, 4)
    assert load_model(f"{here}:ready")(IMAGES).shape == (2, 4)
    with pytest.raises(UserError, match="has its own"):
        load_model(f"{here}:Own", mean=0.5)


def test_a_file_runs_once(here: Path) -> None:
    assert type(load_model(f"{here}:Own")) is type(load_model(f"{here}:Own?gain=3.5"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nett", "did you mean net"),
        ("number", "is an int"),
        ("nothing", "returns a NoneType.*a function that takes no images"),
        ("predict", "missing a required argument: 'images'"),
        ("net?clases=3", "unexpected keyword argument 'clases'.*classes=4"),
        ("", "names no function"),
    ],
)
def test_what_is_no_model_is_explained(here: Path, name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_model(f"{here}:{name}")


def test_errors_in_the_users_code_are_left_alone(here: Path) -> None:
    with pytest.raises(RuntimeError, match="from inside"):
        load_model(f"{here}:broken")
    (here.parent / "needy.py").write_text("import no_such_package_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        load_model("needy:net")
    for _ in range(2):  # a file that failed is not taken for loaded
        with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
            load_model("needy.py:net")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("missing.py:net", "there is no file missing.py"),
        ("missing_module:net", "no module and no model source called 'missing_module'"),
        ("tim:resnet18", "did you mean timm"),
        ("resnet18", "there is no folder resnet18.*timm:resnet18"),
        ("{file}", "the function that returns the model is needed too"),
        ("weights.safetensors", r"timm:resnet18\?weights=weights.safetensors"),
        ("model.pt", "is a pickle.*no pickle is loaded.*FILE.py:function"),
        ("model.pth", "is a pickle"),
        ("model.pkl", "is a pickle"),
        ("model.ckpt", "is a pickle"),
        ("model.pt:net", "is a pickle"),
        ("hidden", "is a pickle"),
        ("empty", "empty holds no vallum.json"),
        ("missing.onnx", "there is no file missing.onnx"),
    ],
)
def test_a_source_that_leads_nowhere_says_where_to_go(here: Path, source: str, says: str) -> None:
    torch.save({}, "hidden")
    Path("empty").mkdir()
    with pytest.raises(UserError, match=says):
        load_model(source.format(file=here))


@pytest.mark.parametrize(("made", "says"), [(3, "an int is no model"), (nn.Flatten, "is a class")])
def test_what_is_neither_model_nor_source_is_refused(made: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_model(made)


def test_a_device_or_task_that_is_not_there() -> None:
    with pytest.raises(UserError, match="device 'warp'"):
        load_model(nn.Flatten(), device="warp")
    with pytest.raises(UserError, match="one of 'classify', 'segment'"):
        load_model(nn.Flatten(), task="detect")
    assert load_model(nn.Linear(2, 2), device="cpu").device.type == "cpu"


def test_every_source_shows_what_it_takes() -> None:
    ours = {"builtin", "folder", "hf", "net", "onnx", "python", "smp", "timm", "torchvision"}
    assert set(MODEL_SOURCES) == ours | {"noisy_modelling", "self_supervision"}
    for name in MODEL_SOURCES:
        line = (MODEL_SOURCES[name].__doc__ or "").splitlines()[0]
        assert line.endswith(".")
        assert f"{name}:" in line or name == "python"


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("0.5", 0.5), ("1e-3", 1e-3), ("True", True), ("false", False), ("a.b", "a.b")]
)
def test_values_are_guessed_plainly(text: str, value: object) -> None:
    assert guess_value(text) == value
    assert type(guess_value(text)) is type(value)


def test_no_package_is_imported_before_its_source_is_used() -> None:
    optional = (
        "timm",
        "torchvision",
        "segmentation_models_pytorch",
        "transformers",
        "onnx",
        "onnxruntime",
        "onnx2torch",
    )
    code = f"import sys, vallum.models; print([name for name in {optional!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
