"""Onsets of curves made by hand and by chance, and label models that see the final image in the final image."""

import json
import math
import os

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scenescope import diffusion, labelers, store
from scenescope.bootstrap import Resamples
from scenescope.onset import Curve, Onset, first_reaching, headline, tabulate
from scenescope.parts import WHOLE
from scenescope.settings import TARGETS, load_params
from stages import onset, see

IMAGES = 40
DRAWN = Resamples(IMAGES, 300, 0)
curves = arrays(np.float64, st.integers(2, 8), elements=st.floats(-1, 1, width=16))
shares = st.sampled_from([0.25, 0.5, 0.9, 1.0])


def rising(*means, spread=0.02, seed=0):
    """Scores [steps, images] about these means, good images good at every step."""
    noise = np.random.default_rng(seed).normal(0, spread, IMAGES)
    return np.array(means)[:, None] + (noise - noise.mean())


def found_for(**rows):
    """The headline of one target, with position at 0.1 unless it is said."""
    steps = len(rows["probe"])
    rest = {"zt": rows["probe"], "x0": rows["probe"], "position": rising(*[0.1] * steps, seed=5)}
    return headline({row: {"depth": scores} for row, scores in (rest | rows).items()}, 0.9, DRAWN, {})["depth"]


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([0.1, 0.5, 0.95, 1.0], 3),
        ([0.1, 0.5, 0.9, 1.0], 3),  # reached, not passed
        ([0.1, 0.92, 0.3, 1.0], 2),  # it need not stay
        ([0.9, 0.9, 0.9, 0.9], 1),
        ([0.5, -0.4, 0.2, 0.4], 1),  # better once than at the end
        ([0.1, 0.2, 0.3, 1.0], 4),
        ([math.nan, 0.2, 0.95, 1.0], 3),
        ([0.5, 0.2, 0.1, 0.0], None),
        ([0.5, 0.2, 0.1, -0.3], None),
        ([0.5, 0.2, 0.1, math.nan], None),
    ],
)
def test_onset_is_the_first_step_that_reaches_the_share(curve, expected):
    step = float(first_reaching(np.array(curve), 0.9))
    assert math.isnan(step) if expected is None else step == expected


@given(curves, shares)
def test_before_the_onset_no_step_reaches_the_share_and_at_it_one_does(curve, share):
    step = float(first_reaching(curve, share))
    if curve[-1] <= 0:
        assert math.isnan(step)
        return
    at = int(step) - 1
    assert curve[at] >= share * curve[-1] - 1e-6 and all(curve[:at] < share * curve[-1])


@given(curves, shares, st.floats(0.1, 10))
def test_onset_does_not_depend_on_the_scale_and_comes_no_later_for_less(curve, share, scale):
    assert np.array_equal(first_reaching(curve, 0.3), first_reaching(curve * scale, 0.3), equal_nan=True)
    assert not first_reaching(curve, share / 2) > first_reaching(curve, share)


@given(curves, st.integers(2, 5))
def test_many_curves_at_once_are_as_each_alone(curve, count):
    many = np.stack([np.roll(curve, i) for i in range(count)], 1)
    alone = [first_reaching(many[:, i], 0.9) for i in range(count)]
    assert np.array_equal(first_reaching(many, 0.9), alone, equal_nan=True)


def test_resampled_onsets_are_those_of_the_images_drawn():
    scores = rising(0.2, 0.7, 0.71, 0.8, spread=0.0) + np.random.default_rng(1).normal(0, 0.2, (4, IMAGES))
    found = Onset.of(Curve.of(scores, DRAWN), 0.9)
    assert len(set(found.resampled)) > 1
    for times, step in zip(DRAWN.times, found.resampled, strict=True):
        drawn = np.repeat(scores, times.astype(int), axis=1)
        assert step == first_reaching(drawn.mean(1), 0.9)
    assert found.interval("step") == {
        "step": int(first_reaching(scores.mean(1), 0.9)),
        "low": int(np.quantile(found.resampled, 0.025, method="lower")),
        "high": int(np.quantile(found.resampled, 0.975, method="higher")),
    }


def test_the_same_score_at_every_step_sets_in_at_the_first_even_for_all_of_it():
    scores = np.repeat(np.random.default_rng(2).uniform(0.1, 0.9, (1, IMAGES)), 15, 0)
    found = Onset.of(Curve.of(scores, DRAWN), 1.0)
    assert found.step == 1 and set(found.resampled) == {1}


def test_images_without_a_score_are_left_out_and_counted():
    scores = rising(0.2, 0.9, 1.0)
    scores[0, :5] = scores[2, -1] = math.nan
    curve = Curve.of(scores, DRAWN)
    assert curve.value == pytest.approx([scores[0, 5:].mean(), scores[1].mean(), scores[2, :-1].mean()])
    assert tabulate({"zt": {"depth": scores}}, 0.9, DRAWN)["undefined"].tolist() == [5, 0, 1]
    scores[0] = math.nan
    assert Onset.of(Curve.of(scores, DRAWN), 0.9).step == 2


@pytest.mark.parametrize("last", [-0.4, 0.0, 0.01])
def test_a_score_that_may_end_at_zero_has_no_onset(last):
    scores = rising(0.5, 0.2, last, spread=0.3)
    found = Onset.of(Curve.of(scores, DRAWN), 0.9)
    assert math.isnan(found.step) and np.isnan(found.resampled).all()
    assert found.interval("step") == {"step": None, "low": None, "high": None}
    assert tabulate({"zt": {"depth": scores}}, 0.9, DRAWN)["onset"].tolist() == [0, 0, 0]
    assert found_for(probe=rising(0.5, 0.6, 0.7), zt=scores)["probe_before_zt"]["steps"] is None


def test_differences_of_onsets_are_paired():
    noisy = rising(0.2, 0.7, 0.72, 0.8, 0.8, 0.8) + np.random.default_rng(3).normal(0, 0.3, (6, IMAGES))
    later = np.concatenate([np.zeros((2, IMAGES)), noisy[:3], noisy[-1:]])  # the same curve two steps on
    found = found_for(probe=noisy, x0=noisy, zt=later)
    assert found["probe"]["low"] < found["probe"]["high"]
    assert found["probe_before_x0"] == {"steps": 0, "low": 0, "high": 0}
    ends = Onset.of(Curve.of(later, DRAWN), 0.9).resampled - Onset.of(Curve.of(noisy, DRAWN), 0.9).resampled
    assert found["probe_before_zt"]["low"] == np.quantile(ends, 0.025, method="lower") > 0


def test_what_position_gives_away_is_seen():
    position = rising(*[0.6] * 5, seed=4)
    gained = position + np.array([0.0, 0.02, 0.05, 0.06, 0.06])[:, None]
    found = found_for(probe=gained, zt=rising(0.1, 0.2, 0.4, 0.8, 1.0), x0=position - 0.1, position=position)
    assert found["probe"]["step"] == found["position"]["step"] == 1  # 0.6 of 0.66 is more than 90 %
    assert found["position_share"] == pytest.approx(0.6 / 0.66) and found["probe_before_position"]["steps"] == 0
    assert found["above_position"]["probe"] == {"step": 4, "low": 4, "high": 4}
    assert found["above_position"]["zt"]["step"] == 5
    assert found["above_position"]["x0"]["step"] is None
    assert found["probe"]["at_step_1"] == pytest.approx(0.6 / 0.66) and found["probe"]["last"] == pytest.approx(0.66)


def test_the_table_has_a_line_a_row_target_and_step_and_marks_onsets():
    scores = {row: {target: rising(0.1, 0.95, 1.0) for target in TARGETS} for row in ("probe", "zt")}
    table = tabulate(scores, 0.9, DRAWN)
    assert len(table) == 2 * 3 * 3 and not table.duplicated(["row", "target", "step"]).any()
    assert (table["low"] <= table["score"]).all() and (table["score"] <= table["high"]).all()
    assert table.loc[table["onset"] == 1, "step"].tolist() == [2] * 6


def test_label_models_are_as_good_as_the_models_card_says(tmp_path):
    card = ROOT / "models" / "tabletop" / "card.json"
    known = json.loads(card.read_text())
    found = onset.label_models(card)
    assert set(found) == set(TARGETS)
    assert found["depth"]["renders"] == known["label_models_on_test_renders"]["depth_spearman"]
    assert found["saliency"]["decoded_renders"] == known["label_models_on_decoded_test_renders"]["saliency_dice"]
    assert onset.label_models(tmp_path / "card.json") == {}
    (tmp_path / "card.json").write_text('{"autoencoder_mse": 0.1}')
    assert onset.label_models(tmp_path / "card.json") == {}


STEPS, TEST = 2, [1, 2, 4]


@pytest.fixture(scope="module")
def model():
    home = str(ROOT / "models" / "tabletop")
    return diffusion.open_model(home, image_size=64, steps=STEPS, guidance=3.0, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def models():
    folder = ROOT / "models" / "tabletop"
    return {target: labelers.named("tabletop", target)[0].load(target, folder, "cpu") for target in TARGETS}


@pytest.fixture(scope="module")
def sampled(model):
    table = pd.read_csv(ROOT / "prompts" / "tabletop.csv")[:9]
    return diffusion.sample_with_predictions(model, table["prompt"].tolist(), table["seed"].tolist())


def test_label_models_agree_with_themselves_on_the_final_image_and_less_on_noise(model, models, sampled):
    trajectories, _ = sampled
    final = np.concatenate([diffusion.decode(model, part) for part in trajectories[:, -1].split(8)])
    known = {target: label(final) for target, label in models.items()}
    found = see.agreement(model, models, {"zt": trajectories[:, 0], "x0": trajectories[:, -1]}, known)
    assert set(found) == {f"{kind}/{target}" for kind in ("zt", "x0") for target in TARGETS}
    for target in TARGETS:
        assert found[f"x0/{target}"] == pytest.approx(np.ones(9), abs=1e-12)
        assert found[f"zt/{target}"].mean() < 0.8


def save(folder, values):
    store.fill(folder, values.shape, str(values.dtype), lambda rows: values[rows], desc="")


@pytest.fixture
def home(model, models, sampled, tmp_path, monkeypatch):
    """A study of nine images and two steps, run as far as the map, of which only the scores are there."""
    monkeypatch.chdir(tmp_path)
    for name in ("scenescope", "stages"):
        os.symlink(ROOT / name, name)
    os.makedirs("models/tabletop")
    for path in (ROOT / "models" / "tabletop").iterdir():
        os.symlink(path, f"models/tabletop/{path.name}")
    settings = yaml.safe_load((ROOT / "models/tabletop/model.yaml").read_text()) | {"steps": STEPS}
    os.remove("models/tabletop/model.yaml")
    (tmp_path / "models/tabletop/model.yaml").write_text(yaml.safe_dump(settings))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["device"], params["onset"]["batch_size"] = "cpu", 2
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))

    table = pd.read_csv(ROOT / "prompts" / "tabletop.csv")[:9]
    split = ["test" if row in TEST else "train" for row in range(9)]
    os.makedirs("data/map")
    table.assign(split=split).to_csv("data/prompts.csv", index=False)
    trajectories, predictions = (latents.numpy() for latents in sampled)
    save(tmp_path / "data/trajectories", trajectories)
    save(tmp_path / "data/predictions", predictions)
    images = diffusion.decode(model, sampled[0][:, -1])
    for target, label in models.items():
        save(tmp_path / "data/labels" / target, label(images))
    os.makedirs("data/classify")
    pd.DataFrame({"zt": [2, 2, math.nan], "x0": [1, 2, 1]}).to_csv("data/classify/settled.csv", index=False)
    for step in range(1, STEPS + 1):
        scores = {
            f"{features}/{target}/{onset.SCORE[target]}": np.array([0.5, 0.6, 0.7]) + step * gain
            for target in TARGETS
            for features, gain in ((f"network/{params['probe']['layer']}", 0.1), ("position/-", 0), ("mean_map/-", 0))
        }
        np.savez(f"data/map/step_{step:03d}.npz", **scores)
    return tmp_path


def seen(home, step):
    return dict(np.load(home / "data/onset" / f"step_{step:03d}.npz"))


def test_the_stage_goes_on_where_it_was_stopped_and_scores_the_latents_before_each_step(
    home, model, models, sampled, monkeypatch
):
    class Stopped(Exception):
        pass

    calls, whole = [], see.agreement

    def counted(*given):
        calls.append(given)
        if len(calls) == 4:
            raise Stopped
        return whole(*given)

    monkeypatch.setattr(see, "agreement", counted)
    with pytest.raises(Stopped):
        see.see(load_params(), WHOLE)
    assert not (home / "data/onset").exists()
    see.see(load_params(), WHOLE)
    assert len(calls) == 4 + 2  # two batches a step, and the first step was done
    assert sorted(path.name for path in (home / "data/onset").iterdir()) == ["step_001.npz", "step_002.npz"]

    trajectories, predictions = sampled
    known = {target: store.read(store.open_whole(home / "data/labels" / target), np.array(TEST)) for target in TARGETS}
    for step in (1, 2):
        latents = {"zt": trajectories[TEST, step - 1], "x0": predictions[TEST, step - 1]}
        wanted, found = whole(model, models, latents, known), seen(home, step)
        assert set(found) == set(wanted)
        for name in wanted:
            assert found[name] == pytest.approx(wanted[name], abs=1e-3)  # batches of another size round otherwise


def test_the_stage_onset_writes_what_the_chart_and_the_metrics_show(home):
    see.see(load_params(), WHOLE)
    onset.onset(load_params())
    table = pd.read_csv("plots/data/onset.csv").set_index(["row", "target", "step"])
    assert set(table.index.get_level_values("row")) == {"probe", "zt", "x0", "position", "mean_map"}
    assert table.loc[("probe", "depth", 2), "score"] == pytest.approx(0.8)
    assert table.loc[("zt", "depth", 2), "score"] == pytest.approx(seen(home, 2)["zt/depth"].mean(), abs=1e-5)
    found = json.loads((home / "metrics/onset.json").read_text())
    assert set(found) == set(TARGETS)
    assert found["depth"]["probe"]["step"] == 2 and found["depth"]["position"]["step"] == 1
    assert found["depth"]["label_model"]["renders"] > 0.9
    assert found["depth"]["probe_before_classifier_zt"]["steps"] == 0  # both at step 2
    assert found["depth"]["probe_before_classifier_x0"] == {"steps": -1, "low": -1, "high": 0}

    params = yaml.safe_load((home / "params.yaml").read_text())
    params["labels"]["depth"] = "midas"  # of which the card says nothing
    (home / "params.yaml").write_text(yaml.safe_dump(params))
    onset.onset(load_params())
    found = json.loads((home / "metrics/onset.json").read_text())
    assert "label_model" not in found["depth"] and "label_model" in found["shading"]
