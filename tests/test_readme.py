"""The tables of the README's results are those of the committed metrics, to the last digit that they show."""

import json

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from scenescope.settings import TARGETS

README = (ROOT / "README.md").read_text()
LAYER = yaml.safe_load((ROOT / "params.yaml").read_text())["probe"]["layer"]


def read(name):
    return json.loads((ROOT / "metrics" / f"{name}.json").read_text())


def whole(found, key):
    """Steps with their interval."""
    return f"{found[key]} [{found['low']}, {found['high']}]".replace("-", "−")


@pytest.mark.parametrize(
    ("row", "name", "key"),
    [
        ("probe (ridge)", "probe", "step"),
        ("label model, on z", "zt", "step"),
        ("label model, on x₀", "x0", "step"),
        ("probe before label model on z", "probe_before_zt", "steps"),
        ("probe before label model on x₀", "probe_before_x0", "steps"),
        ("probe before the classifier on z", "probe_before_classifier_zt", "steps"),
        ("probe before the classifier on x₀", "probe_before_classifier_x0", "steps"),
    ],
)
def test_when(row, name, key):
    onset = read("onset")
    assert f"| {row} | {' | '.join(whole(onset[target][name], key) for target in TARGETS)} |" in README


def test_when_above_position():
    cells = [whole(found["above_position"]["probe"], "step") for found in read("onset").values()]
    assert f"| probe, counting only what it has above position | {' | '.join(cells)} |" in README


def test_when_the_classifier_has_settled():
    seen = read("classify")
    on_z, on_x0 = whole(seen["zt"], "step"), whole(seen["x0"], "step")
    sentence = f"half of its {seen['images']} images by step {on_z} on z, and by step {on_x0} on x₀"
    assert sentence in " ".join(README.split())


def test_how_well_the_papers_probe_does():
    rows = {"linear probe (the paper's, Adam)": [], "the same objective at its optimum": []}
    for target in TARGETS:
        found = read(f"probe/{target}")
        name = next(iter(found["last_step"]))  # of the target's score
        last = found["last_step"]
        rows["linear probe (the paper's, Adam)"].append(
            f"{last[name]:.2f} [{last[f'{name}_low']:.2f}, {last[f'{name}_high']:.2f}]"
        )
        rows["the same objective at its optimum"].append(f"{found['optimum'][f'{name}_optimum']:.2f}")
    for row, cells in rows.items():
        assert f"| {row} | {' | '.join(cells)} |" in README


@pytest.mark.parametrize(
    ("row", "features"),
    [
        ("ridge", "network"),
        ("control: mean label", "mean_map"),
        ("control: position (cubic polynomials)", "position"),
        ("control: the same layer, random weights", "random"),
        ("control: pixels of the decoded z", "pixels"),
    ],
)
def test_how_well_ridge_and_its_controls_do(row, features):
    table = pd.read_csv(ROOT / "plots/data/layer_step.csv")
    table = table[(table.features == features) & table.layer.isin([LAYER, "-"])]
    last = table[table.step == table.step.max()].set_index("target")
    cells = [
        f"{found.score:.2f} [{found.score_low:.2f}, {found.score_high:.2f}]"
        for found in (last.loc[target] for target in TARGETS)
    ]
    assert f"| {row} | {' | '.join(cells)} |" in README
    if features == "network":
        cells = [f"{last.loc[target].control:.2f}" for target in TARGETS]
        assert f"| control task: labels of other images | {' | '.join(cells)} |" in README


def test_the_best_layers():
    found = [read("ridge")[target]["best_at_last_step"] for target in TARGETS]
    cells = [f"{best['score']:.2f} (`{best['layer']}`)" for best in found]
    assert f"| best layer on validation images, ridge | {' | '.join(cells)} |" in README
