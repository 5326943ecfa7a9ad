"""Labels that are no numbers stop the study; labels without variation make scores undefined, which are counted."""

import json

import pytest

pytestmark = pytest.mark.slow

# A label model whose depth of every image with a given remainder is flat, or no number.
LABELER = """
import numpy as np
TARGETS = ("depth",)
def load(target, folder, device, source):
    def label(images):
        maps = images.mean(-1, dtype=np.float32)
        dark = images.mean((1, 2, 3)) < np.median(images.mean((1, 2, 3)))
        maps[dark] = VALUE
        return maps
    return label
"""


@pytest.fixture
def finished(done, tmp_path):
    study = done[0].copied(tmp_path / "copy")
    study.settings("params.yaml", labels__depth="mine")
    return study


def add(study, value):
    (study.home / "scenescope/labelers/mine.py").write_text(LABELER.replace("VALUE", value))


def test_a_label_that_is_no_number_names_the_image(finished):
    add(finished, "np.nan")
    output = finished.run("python", "-m", "stages.label", "depth", fails=True)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: labels.depth: mine gave numbers that are not finite for data/images/t00")
    assert "Traceback" not in output


def test_constant_labels_are_said_and_their_scores_counted_as_undefined(finished):
    add(finished, "0.5")
    output = finished.run("dvc", "repro", "ridge", "see", "probe@depth")
    assert "label depth: 9 of 18 maps are constant" in output
    last = json.loads((finished.home / "metrics/probe/depth.json").read_text())["last_step"]
    undefined = last["spearman_undefined"]
    assert 0 < undefined <= 6 and last["pearson_undefined"] == undefined and last["rmse_undefined"] == 0
    header, *rows = (finished.home / "plots/data/layer_step.csv").read_text().splitlines()
    place = header.split(",").index("undefined")
    depth = [row.split(",") for row in rows if ",depth," in row and row.startswith("network,")]
    assert {row[place] for row in depth} == {str(undefined)}
    if undefined < 6:
        assert last["spearman"] is not None
