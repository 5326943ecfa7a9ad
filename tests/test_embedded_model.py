"""The embedded model's parts on scenes and prompts that nothing was trained on; its card tells the truth."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from scenescope import diffusion
from scenescope.classifiers import tabletop as class_net
from scenescope.labelers import tabletop as label_net
from scenescope.settings import TARGETS
from scenescope.tabletop.card import class_accuracy, label_quality, named
from scenescope.tabletop.dataset import scenes_for
from scenescope.tabletop.render import render
from scenescope.tabletop.words import build_tokenizer

HOME = ROOT / "models" / "tabletop"


@pytest.fixture(scope="module")
def scenes():
    return scenes_for(20_000_000, 160, keep_held_out=True)


@pytest.fixture(scope="module")
def renders(scenes):
    return render(scenes, 64)


def test_label_models_agree_with_the_renderers_truth(renders):
    labelers = {target: label_net.load(target, HOME, "cpu") for target in TARGETS}
    found = label_quality(labelers, renders.image, renders)
    assert found["saliency_dice"] >= 0.95
    assert found["depth_spearman"] >= 0.95
    assert found["shading_spearman"] >= 0.90


def test_classifier_names_shape_and_colour(scenes, renders):
    classify = class_net.load(HOME / "classifier.safetensors", "cpu")
    found = class_accuracy(classify, renders.image, *named([scene.caption for scene in scenes]))
    assert found["shape"] >= 0.95
    assert found["colour"] >= 0.95


def test_generated_images_show_what_the_prompt_names():
    table = pd.read_csv(ROOT / "prompts" / "tabletop.csv")[200:248]
    prompts, seeds = table["prompt"].tolist(), table["seed"].tolist()
    model = diffusion.open_model(str(HOME), image_size=64, steps=15, guidance=3.0, dtype="float32", device="cpu")
    images = diffusion.decode(model, diffusion.sample(model, prompts, seeds)[:, -1])
    found = class_accuracy(class_net.load(HOME / "classifier.safetensors", "cpu"), images, *named(prompts))
    assert found["colour"] >= 0.9
    assert found["shape"] >= 0.7  # the card's figure is over 200 images; 48 may fall short of it by chance


def test_the_vocabulary_is_learned_from_the_captions_and_nothing_of_it_by_chance():
    kept = json.loads((HOME / "tokenizer/tokenizer.json").read_text())["model"]
    learned = json.loads(build_tokenizer().backend_tokenizer.to_str())["model"]
    assert learned["vocab"] == kept["vocab"]
    assert learned["merges"] == kept["merges"]


def test_weights_are_small_and_no_pickles():
    files = [path for path in HOME.rglob("*") if path.is_file() and ".scratch" not in path.parts]
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") <= 40e6
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")]


def test_card_quotes_its_own_measurements():
    card = json.loads((HOME / "card.json").read_text())
    text = (HOME / "README.md").read_text()
    quality = card["label_models_on_test_renders"] | card["generated_images"]
    for value in (*quality.values(), *card["classifier_on_test_renders"].values()):
        assert re.search(rf"{100 * value:.1f} %|{value:.3f}", text), value


def test_layers_of_the_trained_unet_say_more_than_position_and_chance():
    card = json.loads((HOME / "card.json").read_text())
    best = {name: max(row[name] for row in card["ridge"]["step_15"].values()) for name in card["mean_map"]}
    for name, control in card["mean_map"].items():
        blank = max(row[name] for row in card["ridge_on_random_unet"]["step_15"].values())
        assert best[name] > control, name
        assert best[name] > blank, name
    assert np.isfinite(list(best.values())).all()
