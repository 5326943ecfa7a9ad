"""The study end to end in a temporary clone, by the commands that a user types."""

import csv
import json
import re
import sys

import numpy as np
import pytest
import yaml
from conftest import Study, stages_run
from PIL import Image

TARGETS = ("saliency", "depth", "shading")
ALL = [
    "prompts",
    "generate",
    *(f"label@{target}" for target in TARGETS),
    "capture",
    *(f"probe@{target}" for target in TARGETS),
    "ridge",
    "see",
    "classify",
    "onset",
    "figures",
    "report",
]
AFTER_LAYER = [stage for stage in ALL if stage.split("@")[0] in ("capture", "probe", "onset", "figures", "report")]


def lock(study: Study) -> dict:
    return yaml.safe_load((study.home / "dvc.lock").read_text())["stages"]


def test_first_run_runs_every_stage_once_and_trains_nothing(done):
    _, output = done
    assert sorted(stages_run(output)) == sorted(ALL)


def test_results_are_where_the_readme_says(done):
    study, _ = done
    rows = list(csv.DictReader((study.home / "data/prompts.csv").open()))
    assert len(rows) == 18
    assert [row["split"] for row in rows].count("test") == 6
    images = sorted((study.home / "data/images").iterdir())
    assert [image.stem for image in images] == [row["prompt_id"] for row in rows]
    assert Image.open(images[0]).size == (64, 64)
    for target in TARGETS:
        scores = json.loads((study.home / f"metrics/probe/{target}.json").read_text())["last_step"]
        name = "dice" if target == "saliency" else "spearman"
        assert scores[f"{name}_low"] <= scores[name] <= scores[f"{name}_high"]
    test_image = next(row["prompt_id"] for row in rows if row["split"] == "test")
    assert {path.name for path in (study.home / "plots/images" / test_image).iterdir()} == {
        f"{step}.png" for step in range(1, 5)
    }
    assert np.asarray(Image.open(study.home / f"plots/figures/emergence_{test_image}.png")).std() > 10


def test_second_run_runs_nothing(done):
    study, _ = done
    assert stages_run(study.run("dvc", "repro")) == []
    assert "up to date" in study.run("dvc", "status")


def test_another_layer_recomputes_only_what_reads_it_and_going_back_computes_nothing(done):
    study, _ = done
    before = lock(study)
    output = study.run("dvc", "exp", "run", "-S", "probe.layer=dec3_l2")
    assert sorted(stages_run(output)) == sorted(AFTER_LAYER)

    difference = study.run("dvc", "metrics", "diff", "--md")
    changed = [line for line in difference.splitlines() if "last_step.spearman " in line]
    assert changed
    assert not [line for line in changed if "| - " in line], "a metric moved instead of changing in place"
    assert "probe.layer" in study.run("dvc", "exp", "show", "--md", "--no-pager")
    assert "file://" in study.run("dvc", "plots", "diff", "HEAD")

    study.run(sys.executable, "-m", "scenescope.compare", "HEAD", "workspace")
    page = (study.home / "compare/index.html").read_text()
    assert re.search(r"probe\.layer</th><td>dec4_l1</td><td>dec3_l2</td>", page)
    assert "metrics/probe/depth.json: " in page and "The same in every cell" in page
    both = [(study.home / f"compare/{name}.html").read_text() for name in "ab"]
    assert ["dec3_l2</dd>" in report for report in both] == [False, True]

    back = study.run("dvc", "exp", "run", "-S", "probe.layer=dec4_l1")
    assert stages_run(back) == []
    assert lock(study) == before


@pytest.mark.slow
def test_from_nothing_again_gives_the_same_bytes(done, study):
    first, _ = done
    study.run("dvc", "repro")
    assert lock(study) == lock(first)


@pytest.mark.parametrize(
    ("change", "named", "expected"),
    [
        ({"probe__layer": "dec9_l9"}, "probe.layer", "did you mean dec"),
        ({"probe__epochs": -1}, "probe.epochs", "greater than or equal to 1"),
        ({"model": "tabeltop"}, "model", "did you mean tabletop?"),
        ({"prompts__source": "prompts/none.csv"}, "prompts/none.csv", "no such file"),
    ],
)
def test_a_wrong_setting_is_one_line_before_anything_runs(study, change, named, expected):
    study.settings("params.yaml", **change)
    output = study.run("dvc", "repro", fails=True)
    told = [line for line in output.splitlines() if named in line and expected in line]
    assert len(told) == 1, output
    assert "Traceback" not in output
    assert "exited with 1" in output
    assert not (study.home / "data").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"prompt,prompt_id\na red cube,1\n", "no column 'seed'"),
        (b"prompt,seed,prompt_id\na red cube,1,a\na blue cube,2,a\n", "row 3: prompt_id 'a' is already in row 2"),
        (b"prompt,seed\n ,1\n", "row 2: the prompt is empty"),
        ("prompt,seed\nein grüner Würfel,1\n".encode("latin-1"), "row 2: not UTF-8"),
    ],
)
def test_a_bad_prompts_file_is_one_line_before_anything_runs(study, content, expected):
    (study.home / "prompts" / "tabletop.csv").write_bytes(content)
    output = study.run("dvc", "repro", fails=True)
    assert [line for line in output.splitlines() if "prompts/tabletop.csv" in line and expected in line], output
    assert "Traceback" not in output
    assert stages_run(output) == ["prompts"]
    assert "exited with 1" in output
    assert not (study.home / "data").exists()
