"""When a classifier knows what the prompt names: the maths by brute force, the file that asks, and the stage."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from scenescope import classes, classifiers
from scenescope.bootstrap import Resamples
from scenescope.classifiers import tabletop, vgg16
from scenescope.errors import UserError
from scenescope.prompts import read_classes
from scenescope.tabletop.grammar import classes as tabletop_classes

RIGHT = st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=12)


@given(RIGHT)
def test_an_image_settles_at_the_first_step_from_which_on_it_stays_right(right):
    found = classes.settled_at(np.array(right))
    for row, step in zip(right, found, strict=True):
        good = [t for t in range(1, 6) if all(row[t - 1 :])]
        assert step == good[0] if good else np.isnan(step)


@given(RIGHT)
def test_half_of_the_images_are_settled_by_the_step_and_not_before_it(right):
    settled = classes.settled_at(np.array(right))
    drawn = Resamples(len(settled), 50, 0)
    onset = classes.half_settled(settled, 5, drawn)
    shares = [(settled <= t).mean() for t in range(1, 6)]
    if shares[-1] < 0.5:
        assert np.isnan(onset.step)
    else:
        step = int(onset.step)
        assert shares[step - 1] >= 0.5 and all(share < 0.5 for share in shares[: step - 1])
    for times, value in zip(drawn.times, onset.resampled, strict=True):
        again = np.repeat(settled, times.astype(int))
        reached = [t for t in range(1, 6) if (again <= t).mean() >= 0.5]
        assert value == reached[0] if reached else np.isnan(value)


def planted(images=6, steps=4, count=7):
    """Probabilities [N, 2, steps, classes]; in x0 the prompted class wins from step 2 on, in zt from step 4 on."""
    rng = np.random.default_rng(0)
    found = rng.dirichlet(np.ones(count), (images, 2, steps))
    prompted = rng.integers(count, size=images)
    for kind, since in ((0, 4), (1, 2)):
        for step in range(1, steps + 1):
            for i, own in enumerate(prompted):
                found[i, kind, step - 1, own] = 2.0 if step >= since else 0.0
    return found / found.sum(-1, keepdims=True), prompted


def test_what_is_planted_is_found():
    probabilities, prompted = planted()
    drawn = Resamples(len(prompted), 100, 0)
    found = classes.headline(probabilities, prompted, drawn)
    assert (found["images"], found["classes"]) == (6, len(set(prompted)))
    assert found["zt"] | {"accuracy": None} == {"step": 4, "low": 4, "high": 4, "never": 0.0, "accuracy": None}
    assert found["x0"]["step"] == 2
    table = classes.tabulate(probabilities, prompted, drawn).set_index(["seen", "step"])
    assert table["accuracy"].to_dict() == {
        (kind, step): float(step >= since) for kind, since in (("zt", 4), ("x0", 2)) for step in range(1, 5)
    }
    assert table.loc[("zt", 4), "probability"] == pytest.approx(probabilities[range(6), 0, 3, prompted].mean())


def test_the_top_five_are_in_order_and_named():
    probabilities, _ = planted()
    names = tuple("abcdefg")
    prompts = pd.DataFrame({"prompt_id": list("uvwxyz"), "prompt": "p", "class": "a", "seed": range(6)})
    top = classes.top_five(probabilities, names, prompts)
    assert len(top) == 6 * 2 * 4 * 5
    one = top[(top["prompt_id"] == "w") & (top["seen"] == "x0") & (top["step"] == 3)]
    expected = probabilities[2, 1, 2]
    assert one["name"].tolist() == [names[i] for i in np.argsort(-expected)[:5]]
    assert one["probability"].tolist() == pytest.approx(sorted(expected)[:-6:-1])


def test_the_prompts_that_are_committed_name_classes_of_their_classifiers():
    found = read_classes(ROOT / "prompts/classes_imagenet.csv", vgg16.CLASSES)
    assert {"lemon", "orange fruit"} <= set(found["prompt"]) and found["class"].nunique() >= 10
    assert found.groupby("class")["seed"].nunique().min() >= 3
    found = read_classes(ROOT / "prompts/classes_tabletop.csv", tabletop.CLASSES)
    assert set(found["class"]) == set(tabletop.CLASSES)
    assert found.astype(str).equals(tabletop_classes()[found.columns].astype(str))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prompt,seed\na lemon,1\n", "no column 'class'"),
        ("prompt,seed,class\na lemon,1,lemmon\n", "prompt_id 000000: 'lemmon' is no class (did you mean lemon?)"),
        ("prompt,seed,class\na crane,1,crane\n", "'crane' is the name of several classes"),
    ],
)
def test_a_class_that_is_not_the_classifiers_is_one_line(tmp_path, text, told):
    file = tmp_path / "classes.csv"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_classes(file, vgg16.CLASSES)
    assert str(caught.value).startswith(str(file)) and told in str(caught.value)


def test_a_classifier_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"classify\.classifier: no classifier 'vgg' \(did you mean vgg16\?\)"):
        classifiers.named("vgg")
    with pytest.raises(UserError, match=r"classify\.classifier: vgg16:no/file: no file no/file"):
        classifiers.named("vgg16:no/file")


def test_the_stage_keeps_what_the_classifier_says_at_every_step(study):
    study.run("dvc", "repro", "classify")
    home = study.home
    prompts = list(csv.DictReader((home / "prompts/classes_tabletop.csv").open()))
    top = pd.read_csv(home / "data/classify/top5.csv")
    assert top["prompt_id"].unique().tolist() == [row["prompt_id"] for row in prompts]
    assert len(top) == len(prompts) * 2 * 4 * 5
    last = top[(top["seen"] == "x0") & (top["step"] == 4) & (top["rank"] == 1)]
    found = json.loads((home / "metrics/classify.json").read_text())
    assert found["x0"]["accuracy"]["last"] == pytest.approx((last["name"] == last["class"]).mean())
    settled = pd.read_csv(home / "data/classify/settled.csv")
    assert settled["x0"].isna().mean() == pytest.approx(found["x0"]["never"])
    table = pd.read_csv(home / "plots/data/classify.csv")
    assert table.groupby("seen")["step"].apply(list).to_dict() == {"zt": [1, 2, 3, 4], "x0": [1, 2, 3, 4]}


def test_a_wrong_class_stops_the_study_before_anything_runs(study):
    path = study.home / "prompts/classes_tabletop.csv"
    path.write_text(path.read_text().replace("purple", "purpel"))
    output = study.run("dvc", "repro", "prompts", fails=True)
    assert "prompts/classes_tabletop.csv: prompt_id c000: 'purpel cylinder' is no class" in output
    assert "Traceback" not in output and not (study.home / "data").exists()
