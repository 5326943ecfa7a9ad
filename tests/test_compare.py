"""Two experiments side by side: which scores differ, and where the maps do."""

import pandas as pd
import pytest

from scenescope.compare import changed, interval_of, map_difference


def both(old, new):
    return {"old": old, "new": new}


def test_only_what_differs_is_shown_and_intervals_stay_with_their_value():
    metrics = {
        "last_step.dice": both(0.5, 0.75),
        "last_step.dice_low": both(0.45, 0.7),
        "last_step.dice_high": both(0.55, 0.8),
        "last_step.rmse": both(0.25, 0.25),
        "depth.probe.step": both(3, 4),
        "depth.probe.low": both(2, 3),
        "depth.probe.high": both(4, 5),
        "depth.zt.step": both(None, 7),
        "depth.zt.low": both(None, 6),
        "depth.zt.high": both(None, 8),
    }
    dice, probe, zt = changed(metrics)
    assert dice == {"name": "last_step.dice", "old": "0.5 [0.45, 0.55]", "new": "0.75 [0.7, 0.8]", "apart": True}
    assert probe == {"name": "depth.probe.step", "old": "3 [2, 4]", "new": "4 [3, 5]", "apart": False}
    assert zt == {"name": "depth.zt.step", "old": "–", "new": "7", "apart": False}
    assert interval_of("zt.accuracy.last") == ("zt.accuracy.low", "zt.accuracy.high")


def test_the_map_shows_the_difference_of_cells_that_both_have():
    rows = [
        ("network", layer, target, step) for layer in ("a", "b") for target in ("depth", "saliency") for step in (1, 2)
    ]
    first = pd.DataFrame(rows, columns=["features", "layer", "target", "step"]).assign(score=0.5)
    second = first[first["layer"] == "a"].copy()
    assert map_difference(first, second) == []
    second.loc[second["step"] == 2, "score"] = 0.75
    depth, saliency = map_difference(first, second)
    assert (depth["target"], depth["most"]) == ("depth", "0.25")
    (layer,) = depth["layers"]
    assert [(cell["step"], cell["text"]) for cell in layer["cells"]] == [(1, "+0.000"), (2, "+0.250")]
    same, more = (cell["colour"] for cell in saliency["layers"][0]["cells"])
    red, _, blue = (int(more[i : i + 2], 16) for i in (1, 3, 5))
    assert blue > red and same != more


@pytest.mark.parametrize("words", (("HEAD", "nowhere"), ("nowhere", "HEAD")))
def test_an_unknown_revision_is_one_line(study, words):
    output = study.run("python", "-m", "scenescope.compare", *words, fails=True)
    assert output.startswith("error: dvc metrics diff") and "nowhere" in output and "Traceback" not in output
    assert not (study.home / "compare").exists()
