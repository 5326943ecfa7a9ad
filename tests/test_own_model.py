"""A model of somebody's own is a folder with a model.yaml, and no code: other blocks, another sampler, their layers."""

import csv
import json

import pytest
import torch
import yaml
from conftest import ROOT, Study, stages_run
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image

SETTINGS = {
    "source": "weights",
    "image_size": 64,
    "steps": 3,
    "guidance": 2.0,
    "dtype": "float32",
    "batch_size": 5,
    "prompts": "prompts/tabletop.csv",
    "labels": dict.fromkeys(("saliency", "depth", "shading"), "tabletop:models/tabletop/labelers"),
    "classifier": "tabletop:models/tabletop/classifier.safetensors",
    "classes": "prompts/classes_tabletop.csv",
}


def add_model(study: Study, **changes) -> None:
    """models/mine: tabletop's autoencoder and text encoder around an untrained U-Net of two levels, under DDIM."""
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline.from_pretrained(ROOT / "models" / "tabletop")
    pipeline.unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 48),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    home = study.home / "models" / "mine"
    pipeline.save_pretrained(home / "weights")
    (home / "model.yaml").write_text(yaml.safe_dump({**SETTINGS, **changes}))


@pytest.mark.slow
def test_a_folder_with_a_model_yaml_runs_the_whole_study(study):
    add_model(study)
    study.settings("params.yaml", model="mine", probe__layer="dec2_l2")
    study.run("dvc", "repro")
    rows = list(csv.DictReader((study.home / "data/prompts.csv").open()))
    assert Image.open(study.home / "data/images" / f"{rows[0]['prompt_id']}.png").size == (64, 64)
    layers = {"enc1_l1", "mid_l1", "dec2_l1", "dec2_l2"}
    best = json.loads((study.home / "metrics/ridge.json").read_text())["depth"]["best"]
    assert best["layer"] in layers
    cells = list(csv.DictReader((study.home / "plots/data/layer_step.csv").open()))
    assert {row["layer"] for row in cells if row["features"] == "network"} == layers
    steps = list(csv.DictReader((study.home / "plots/data/probe_depth.csv").open()))
    assert [row["step"] for row in steps] == ["1", "2", "3"]


def test_the_layers_are_those_of_the_models_own_unet(study):
    add_model(study)
    study.settings("params.yaml", model="mine", probe__layer="dec4_l1")
    output = study.run("dvc", "repro", fails=True)
    assert "probe.layer: mine has no layer 'dec4_l1' (did you mean dec2_l1?)" in output
    assert not (study.home / "data").exists()


def test_label_models_are_overridden_by_name_and_a_wrong_one_is_refused_before_anything_runs(study):
    for spec, told in (
        ("midass", "labels.depth: no label model 'midass' (did you mean midas?)"),
        ("tracer", "labels.depth: tracer labels saliency, not depth"),
        ("midas:no/such/folder", "labels.depth: midas:no/such/folder: no file or folder no/such/folder"),
    ):
        study.settings("params.yaml", labels__depth=spec)
        output = study.run("dvc", "repro", fails=True)
        assert told in output
        assert "Traceback" not in output
        assert not (study.home / "data").exists()


def test_an_unfinished_pipeline_and_an_unknown_sampler_are_one_line(study):
    add_model(study)
    study.settings("params.yaml", model="mine", probe__layer="dec2_l2")
    index = study.home / "models/mine/weights/scheduler/scheduler_config.json"
    index.write_text(index.read_text().replace("DDIMScheduler", "PNDMScheduler"))
    path = study.home / "models/mine/weights/model_index.json"
    whole = path.read_text()
    path.write_text(whole.replace("DDIMScheduler", "PNDMScheduler"))
    output = study.run("dvc", "repro", fails=True)
    assert "its scheduler is PNDMScheduler; say scheduler: LMSDiscreteScheduler or DDIMScheduler" in output
    (study.home / "models/mine/weights/vae/diffusion_pytorch_model.safetensors").unlink()
    output = study.run("dvc", "repro", fails=True)
    assert "models/mine/weights: no file vae/diffusion_pytorch_model.safetensors; expected a pipeline" in output
    assert "Traceback" not in output


def test_without_network_a_model_of_the_hub_is_refused_in_one_line_before_anything_runs(study, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    study.settings("params.yaml", model="sd14")
    output = study.run("dvc", "repro", fails=True)
    told = [line for line in output.splitlines() if line.startswith("error:")]
    assert len(told) == 1 and "CompVis/stable-diffusion-v1-4 at revision 133a221b: cannot be had" in told[0]
    assert "is there a network?" in told[0]
    assert "Traceback" not in output
    assert stages_run(output) == ["prompts"]
    assert not (study.home / "data").exists()
