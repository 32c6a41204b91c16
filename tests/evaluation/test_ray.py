"""A Ray cluster works the same cells to the same rows."""

from pathlib import Path

import pytest

import vallum
from vallum.errors import UserError
from vallum.models import save_model


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"vallum\[ray\]"):
        vallum.evaluate("net:resnet?classes=43", "builtin:signs", [], n=4, out=tmp_path, ray="local", progress=False)


@pytest.mark.slow
def test_a_cluster_gives_the_rows_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    model = save_model(vallum.load_model("net:resnet?classes=43"), tmp_path / "net")
    common = {"threats": ["gaussian:std=0.1", "pgd:eps=4/255,steps=5"], "n": 24, "batch_size": 8, "progress": False}
    here = vallum.evaluate(str(model), "builtin:signs", **common, out=tmp_path / "here")
    there = vallum.evaluate(str(model), "builtin:signs", **common, out=tmp_path / "there", ray="local")
    rows = "SELECT * FROM rows ORDER BY threat, key"
    assert here.query(rows).fetchall() == there.query(rows).fetchall()
