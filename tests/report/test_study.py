"""Several runs as one: the same images come together and are compared in pairs, others stay apart."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import vallum
from vallum.cli.table import print_run
from vallum.defences.base import Defence, Surface
from vallum.evaluation import Run
from vallum.evaluation.statistics import holm, mcnemar
from vallum.evaluation.summary import UNION, WORST
from vallum.models.model import Wrapped
from vallum.report import write_report
from vallum.report.export import comma_separated, latex, markdown
from vallum.report.gallery import gallery
from vallum.report.headline import headlines, masked, sentences
from vallum.report.study import Study, studies

NOISE, WEAK, STRONG = "gaussian:std=0.2", "pgd:eps=2/255,steps=2", "pgd:eps=12/255,steps=2"


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()


def data(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = net(0)(images).argmax(1)
    labels[::4] = (labels[::4] + 1) % 3
    return images, labels


def evaluated(out: Path, models: dict[str, int], threats: list[str], n: int = 40) -> Run:
    nets: dict[str, Any] = {name: net(seed) for name, seed in models.items()}
    return vallum.evaluate(nets, data(n), threats, out=out, pictures=3, progress=False)


def same(one: Study, other: Study) -> None:
    assert one.names == other.names
    assert one.rates == other.rates
    assert one.comparisons == other.comparisons


def test_runs_of_one_model_each_are_as_one_run_of_both(tmp_path: Path) -> None:
    both = evaluated(tmp_path / "both", {"one": 0, "two": 1}, [NOISE, WEAK])
    parts = [evaluated(tmp_path / name, {name: seed}, [NOISE, WEAK]) for name, seed in (("one", 0), ("two", 1))]
    [merged], [whole] = studies(parts), studies([both])
    same(merged, whole)
    rows = {
        m: np.array(
            [
                r[0]
                for r in both.fetch(
                    f"SELECT correct FROM rows WHERE model = '{m}' AND threat = '{NOISE}' ORDER BY key"
                )[1]
            ]
        )
        for m in ("one", "two")
    }
    pair = next(pair for pair in merged.comparisons if pair["threat"] == NOISE)
    assert pair["p"] == mcnemar(rows["one"], rows["two"]).p
    assert pair["gain"] == pytest.approx(rows["two"].mean() - rows["one"].mean())


def test_attacks_of_several_runs_make_one_worst_case(tmp_path: Path) -> None:
    whole = evaluated(tmp_path / "whole", {"one": 0}, [WEAK, STRONG])
    parts = [evaluated(tmp_path / str(i), {"one": 0}, [threat]) for i, threat in enumerate((WEAK, STRONG))]
    [merged] = studies(parts)
    assert merged.names == ["one"]
    same(merged, studies([whole])[0])


def test_other_models_of_the_same_name_get_another(tmp_path: Path) -> None:
    [study] = studies([evaluated(tmp_path / str(seed), {"net": seed}, [NOISE]) for seed in (0, 1)])
    assert study.names == ["net", "net (1)"]
    text = write_report([Run(tmp_path / "0"), Run(tmp_path / "1")], tmp_path / "page.html").read_text("utf-8")
    assert "net (1)" in text
    assert text.count("fingerprint <code>") == 2


def test_worst_cases_over_other_attacks_are_not_compared(tmp_path: Path) -> None:
    runs = [evaluated(tmp_path / "0", {"one": 0}, [WEAK]), evaluated(tmp_path / "1", {"two": 1}, [STRONG])]
    [study] = studies(runs)
    assert study.uneven
    assert {pair["threat"] for pair in study.comparisons} == {"clean"}
    assert ("one", WORST) in study.rates
    said = "These models did not meet the same attacks: their worst cases are not of the same thing."
    text, tex = markdown(runs), latex(runs)
    for page in (write_report(runs, tmp_path / "page.html").read_text("utf-8"), text, tex.split("tabular")[0]):
        assert said in page
    for page in (text, tex):
        assert "worst of its own attacks" in page
        assert "worst attack" not in page
    assert text.index("| threat |") < text.index(said)
    for run in runs:  # each of them made a part of the table
        (run.folder / "environment.json").write_text(
            json.dumps({"command": f"vallum evaluate --out {run.folder.name}"})
        )
    assert [line for line in markdown(runs).splitlines() if line.startswith("    ")] == [
        "    vallum evaluate --out 0",
        "    vallum evaluate --out 1",
    ]
    out = io.StringIO()
    print_run(evaluated(tmp_path / "same", {"one": 0, "two": 1}, [WEAK]), Console(file=out))
    both = [Run(tmp_path / "same")]
    assert "did not meet" not in out.getvalue() + markdown(both) + latex(both)
    assert "worst attack: per image" in out.getvalue()
    for cell in both[0].plan.cells():  # a run that was stopped before the second model was attacked
        if cell.model == 1 and both[0].plan.threats[cell.threat].kind == "attack":
            both[0].store.path(cell).unlink()
    half = io.StringIO()
    print_run(Run(tmp_path / "same"), Console(file=half, width=200))
    assert said in half.getvalue()
    assert "worst of its own attacks: per image" in half.getvalue()
    assert "1 cells are not finished" in half.getvalue()
    assert "1 cells are not finished" in latex([Run(tmp_path / "same")])
    assert "**worst attack**" in markdown(both)


def test_other_images_stand_apart(tmp_path: Path) -> None:
    runs = [evaluated(tmp_path / str(n), {"one": 0}, [NOISE], n) for n in (40, 20)]
    assert [study.measured for study in studies(runs)] == [40, 20]
    text = write_report(runs, tmp_path / "page.html").read_text("utf-8")
    assert "their numbers are not comparable" in text
    assert text.count("<article>") == 2
    ids = [part.split('"')[0] for part in text.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_tables_in_other_forms_tell_sets_of_images_apart(tmp_path: Path) -> None:
    first = evaluated(tmp_path / "first", {"one": 0}, [NOISE, WEAK])
    more = evaluated(tmp_path / "more", {"one": 0}, [STRONG])
    other = vallum.evaluate({"one": net(0)}, data(60), [NOISE], out=tmp_path / "other", n=40, seed=1, progress=False)
    rows = list(csv.DictReader(io.StringIO(comma_separated([first, more, other]))))
    of = {(row["study"], row["threat"]): row for row in rows}
    assert len(of) == len(rows)
    assert {row["n"] for row in rows} == {"40"}
    for place, run, seed in (("1", first, "0"), ("2", other, "1")):
        row = of[place, "clean"]
        assert (row["run"], row["seed"]) == (str(run.folder), seed)
        assert row["data_fingerprint"] == run.plan.data_fingerprint
    assert of["1", STRONG]["run"] == str(more.folder)
    assert of["1", WORST]["run"] == f"{first.folder}; {more.folder}"  # the attacks of both
    assert of["1", WORST]["seed"] == "0"
    captions = [line for line in latex([first, more, other]).splitlines() if line.startswith("\\caption")]
    assert len(set(captions)) == 2
    assert f"(seed 1, fingerprint {other.plan.data_fingerprint})" in captions[1]
    assert captions[0].removeprefix("\\caption{").split(" \\%")[0] in markdown([first, more])


def test_the_headline_says_what_is_left_and_what_decides(tmp_path: Path) -> None:
    [study] = studies([evaluated(tmp_path, {"one": 0, "two": 1}, [STRONG])])
    first, second, compared = sentences(study)
    at = study.rates["one", WORST]
    assert f"{100 * at.value:.1f} % [{100 * at.low:.1f}, {100 * at.high:.1f}] are left under an attack" in first
    assert second.startswith("two: ")
    assert "under the worst attack" in compared
    assert [one.attacks for one in headlines(study)] == [1, 1]


class Knowing(nn.Module):
    """Right on the first so many of the images that `numbered` makes, for each of which the right class is 1."""

    def __init__(self, known: int) -> None:
        super().__init__()
        self.known = known

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        right = (images[:, 0, 0, 0] * 100).round() < self.known
        return torch.stack([~right, right], 1) * 9.0


def numbered(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.arange(n) / 100)[:, None, None, None].expand(n, 3, 4, 4).clone(), torch.ones(n, dtype=torch.long)


def test_what_is_said_of_two_models_is_held_against_all_comparisons(tmp_path: Path) -> None:
    """Six images apart is p = 0.031 by itself; of three comparisons it decides nothing, with eight apart it does."""
    models = {name: Knowing(known).eval() for name, known in (("one", 10), ("two", 16), ("three", 10))}
    run = vallum.evaluate(models, numbered(20), [], out=tmp_path / "three", progress=False)
    [study] = studies([run])
    assert [(pair["p"], pair["holm"], pair["of"]) for pair in study.comparisons] == [
        (0.03125, 0.09375, 3),
        (1.0, 1.0, 3),
        (0.03125, 0.09375, 3),
    ]
    said = sentences(study)[-3]
    assert said.startswith("two keeps 30.0 points [")
    how = "McNemar, exact, corrected for 3 comparisons"
    assert said.endswith(f"more than one clean, which may be chance (p = 0.094, {how}).")
    assert sentences(study)[-2].startswith("one and three keep equally much clean: 0.0 points [-")
    out = io.StringIO()
    print_run(run, Console(file=out, width=200))
    lines = [line.strip() for line in out.getvalue().splitlines()]
    gain = study.comparisons[0]
    ends = f"[{100 * gain['gain_low']:+.1f}, {100 * gain['gain_high']:+.1f}]"
    assert f"two minus one, clean: +30.0 {ends} points, p = 0.094" in lines
    assert any(line.startswith("three minus two, clean: -30.0 [-") for line in lines)
    assert "p: McNemar, exact, corrected as Holm does for all 3 comparisons" in lines
    assert "0.031" not in out.getvalue()

    models = {name: Knowing(known).eval() for name, known in (("one", 18), ("two", 10))}
    [study] = studies([vallum.evaluate(models, numbered(20), [], out=tmp_path / "two", progress=False)])
    assert sentences(study)[-1].startswith("one keeps 40.0 points [")
    assert sentences(study)[-1].endswith("more than two clean (p = 0.0078, McNemar, exact).")


class Rounding(Defence):
    """No gradient comes through it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model((images * 12).round() / 12)

    def attack_surfaces(self) -> tuple[Surface, ...]:
        """As one would declare them who believes that his defence is strong."""
        return Surface("direct", self), Surface("transfer", self.model, knows_defence=False)


def test_the_headline_warns_of_an_attack_that_does_not_work(tmp_path: Path) -> None:
    bare = Wrapped(net(0), classes=3)
    images = torch.rand(150, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    models = {"rounded": Rounding(bare)}
    labels = bare(images).argmax(1)
    attacks = ["pgd:eps=24/255,steps=3"]
    run = vallum.evaluate(models, (images, labels), attacks, out=tmp_path, pictures=4, progress=False)
    [study] = studies([run])
    left = {o.surface: study.rate(o) for o in run.outcomes if o.model == "rounded" and "pgd" in o.threat}
    assert left["direct"].low > left["transfer"].high
    [warning] = masked(study)
    assert warning.startswith("rounded: under pgd:eps=24/255,steps=3 the attacker who knows")
    assert f"{100 * left['direct'].value:.1f} %" in warning
    assert warning in sentences(study)
    album = gallery(study)
    assert album is not None
    singly = [o for o in study.outcomes if "pgd" in o.threat and o.surface != UNION]
    least = min(singly, key=lambda one: study.rate(one).value)
    assert album["threats"][album["first"]].endswith(least.surface)  # what leaves least is seen first


def test_holms_correction() -> None:
    """Against its definition: the k-th smallest of m times m - k + 1, never less than one before it, at most 1."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        values = generator.random(7) ** 3
        order = np.argsort(values)
        expected = np.minimum(np.maximum.accumulate(values[order] * (7 - np.arange(7))), 1)
        assert np.allclose(np.array(holm(values.tolist()))[order], expected)
