"""Each state that an installation may be in."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch

from vallum import torchvision_shim


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_torchvision_imports_after_it_even_where_it_failed_before() -> None:
    said = run(
        "try:\n    import torchvision\nexcept RuntimeError:\n    pass\n"
        "from vallum.torchvision_shim import ensure_torchvision as ensure\n"
        "first = ensure()\n"
        "import torchvision, torchvision.transforms.v2\n"
        "torchvision.models.squeezenet1_1()\n"
        "print(first, ensure() == first, torchvision.datasets.FakeData(1)[0][0].size)"
    )
    assert said in ("healthy True (224, 224)", "repaired True (224, 224)")


def test_a_declaration_by_somebody_else_is_completed() -> None:
    said = run(
        "import torch\n"
        "other = torch.library.Library('torchvision', 'DEF')\n"
        "other.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "def refuse(path):\n    raise OSError\n"
        "torch.ops.load_library = refuse\n"
        "from vallum.torchvision_shim import ensure_torchvision\n"
        "ensure_torchvision()\nprint(hasattr(torch.ops.torchvision, 'qnms'))"
    )
    assert said == "True"


def test_a_model_of_the_users_own_may_import_it(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text("def build():\n    import timm\n    return timm.create_model('resnet18', num_classes=3)\n")
    assert run(f"import vallum\nprint(vallum.load_model('python:{own}:build').task.name)") == "CLASSIFY"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchvision with a compiled part, which has declared nothing yet."""
    (tmp_path / "_C.so").touch()
    spec = ModuleSpec("torchvision", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)


def test_nothing_is_declared_where_the_compiled_operators_load(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    monkeypatch.setattr(torch.library, "Library", None)  # would fail if it were called
    assert torchvision_shim.ensure_torchvision.__wrapped__() == "healthy"


def test_both_are_declared_where_they_do_not(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = []

    class Library:
        def __init__(self, namespace: str, kind: str) -> None:
            self.namespace = namespace

        def define(self, schema: str) -> None:
            declared.append(f"{self.namespace}::{schema.partition('(')[0]}")

    def load(path: Path) -> None:
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(torch.ops, "load_library", load)
    monkeypatch.setattr(torch.ops, "torchvision", object())
    monkeypatch.setattr(torch.library, "Library", Library)
    monkeypatch.setattr(torchvision_shim, "_declared", [])
    assert torchvision_shim.ensure_torchvision.__wrapped__() == "repaired"
    assert declared == ["torchvision::nms", "torchvision::qnms"]


def test_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert torchvision_shim.ensure_torchvision.__wrapped__() == "absent"
