"""What matplotlib draws is what the report draws: the same data, and no figure is forgotten."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_sections import sections
from torch import nn

import vallum
from vallum import plots
from vallum.errors import UserError
from vallum.evaluation import Run
from vallum.evaluation.sections import Universal, write
from vallum.report.figure import Chart
from vallum.report.figures import figures
from vallum.report.study import studies

pyplot = pytest.importorskip("matplotlib.pyplot", reason='matplotlib is not installed: pip install "vallum[plots]"')
pyplot.switch_backend("agg")
THREATS = [
    "gaussian:std=0.1",
    "gaussian:std=0.3",
    "fog:1",
    "fog:3",
    "snow:3",
    "pgd:eps=2/255,steps=2",
    "pgd:eps=9/255,steps=2",
]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.manual_seed(0)
    nets = {name: nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval() for name in ("one", "two")}
    data = torch.rand(20, 3, 8, 8), torch.arange(20) % 3
    found = vallum.evaluate(nets, data, THREATS, out=tmp_path_factory.mktemp("run"), pictures=4, progress=False)
    for section in sections():
        write(found.folder, section)
    return found


def test_every_figure_is_drawn_from_the_reports_data(run: Run) -> None:
    drawn = plots.all_figures(run)
    found = figures(studies([run])[0])
    assert set(drawn) == set(found)
    kinds = {
        "rates",
        "energy",
        "corruptions-mean",
        "corruptions-one",
        "corruptions-two",
        "curve-gaussian-by-std",
        "gain-two-minus-one-points",
    }
    assert kinds <= set(drawn)
    for name, figure in found.items():
        [axis] = drawn[name].axes
        assert axis.get_title() == figure.title
        if isinstance(figure, Chart):
            lines = {line.get_label(): line for line in axis.lines}
            for series in figure.series:
                expected = [(m.x, 100 * m.y if figure.percent else m.y) for m in series.marks]
                assert np.allclose(lines[series.name].get_xydata(), expected)


def test_panels_and_names_fit(run: Run) -> None:
    assert len(plots.curves(run.folder).axes) == 3
    assert len(plots.corruptions([run]).axes) == 2
    assert len(plots.energy(run).axes) == 1
    assert [label.get_text() for label in plots.rates(run).axes[0].get_yticklabels()][-1] == "worst attack"
    assert "two minus one" in plots.gains(run).axes[0].get_title()


def test_the_gallery_shows_what_was_kept(run: Run) -> None:
    figure = plots.gallery(run, threat="pgd:eps=9/255,steps=2", model="two", count=2)
    assert len(figure.axes) == 6
    picture = {(p.model, p.threat, p.key): p for p in run.pictures}
    original, after = (axis.images[0].get_array() for axis in figure.axes[:2])
    assert np.allclose(original, picture["two", "clean", 0].original)
    assert np.allclose(
        after - original, picture["two", "pgd:eps=9/255,steps=2", 0].difference, atol=1 / 255
    )  # clipped to [0, 1]
    with pytest.raises(UserError, match="no pictures of three under fog"):
        plots.gallery(run, threat="fog", model="three")


@pytest.mark.parametrize("section", sections(), ids=lambda one: one.kind)
def test_sections_are_drawn_where_there_is_a_figure(section) -> None:
    if section.kind in ("audit", "rates"):
        with pytest.raises(UserError, match="has words or a table and no figure"):
            plots.section(section)
        return
    assert len(plots.section(section).axes) == (2 if isinstance(section, Universal) else 1)


def test_runs_on_different_images_are_not_compared(run: Run, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()
    other = vallum.evaluate(net, (torch.rand(4, 3, 8, 8), torch.arange(4) % 3), [], out=tmp_path, progress=False)
    with pytest.raises(UserError, match="of 2 sets of images"):
        plots.rates([run, other])


def test_without_matplotlib_the_extra_is_named() -> None:
    said = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from vallum import plots\nfrom vallum.errors import UserError\n"
        "try: plots._pyplot()\nexcept UserError as e: print(e)"
    )
    found = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert 'pip install "vallum[plots]"' in found.stdout
