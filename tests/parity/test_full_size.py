"""SD v1.4 and the paper's label models in full size, with random weights, through the whole pipeline on a CPU.

No weight is downloaded: architectures come from the published configurations, key by key and shape by shape.
What the numbers are worth is for the parity tests; here everything has to fit together, in memory too.
"""

import csv
import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, Study
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from make_midas import LARGE
from PIL import Image
from recipe import read_keys, seeded_state
from safetensors.torch import save_file
from test_sampler import PUBLISHED
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scenescope import diffusion, store
from scenescope.classifiers import vgg16
from scenescope.layers import listening

pytestmark = pytest.mark.slow
KEYS = Path(__file__).parent / "keys"
TABLE_1 = {
    **{name: (4096, 320) for name in ("enc1_l1", "enc1_l2", "dec4_l1", "dec4_l2", "dec4_l3")},
    **{name: (1024, 640) for name in ("enc2_l1", "enc2_l2", "dec3_l1", "dec3_l2", "dec3_l3")},
    **{name: (256, 1280) for name in ("enc3_l1", "enc3_l2", "dec2_l1", "dec2_l2", "dec2_l3")},
    "mid_l1": (64, 1280),
}


def sd14() -> StableDiffusionPipeline:
    """Stable Diffusion v1.4 by its published configurations, with random weights."""
    torch.manual_seed(0)
    crossed, plain = ("CrossAttn{}Block2D",) * 3, ("{}Block2D",)
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        down_block_types=tuple(kind.format("Down") for kind in crossed + plain),
        up_block_types=tuple(kind.format("Up") for kind in plain + crossed),
        cross_attention_dim=768,
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        sample_size=512,
    )
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        bos_token_id=49406,
        eos_token_id=49407,
    )
    # Its vocabulary is not ours to carry: tabletop's own, a part of the embedding's rows, gives ids as good.
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "models/tabletop/tokenizer", model_max_length=77)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=PNDMScheduler(**PUBLISHED),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def random_label_models(folder: Path) -> dict[str, str]:
    """Weights of the paper's label models under their published keys; returns what params.yaml calls each."""
    torch.save(
        {f"module.{k}": v for k, v in seeded_state(read_keys(KEYS / "tracer_te5.txt")).items()}, folder / "te5.pth"
    )
    nets = {name: seeded_state(read_keys(KEYS / f"intrinsic_{name}.txt")) for name in ("ordinal", "dense")}
    torch.save({"ord_state_dict": nets["ordinal"], "iid_state_dict": nets["dense"]}, folder / "final_weights.pt")
    dpt = folder / "dpt-large"
    dpt.mkdir()
    (dpt / "config.json").write_text(json.dumps(LARGE))
    save_file(seeded_state(read_keys(KEYS / "midas_dpt_large.txt")), dpt / "model.safetensors")
    return {
        "saliency": f"tracer:{folder}/te5.pth",
        "depth": f"midas:{folder}/dpt-large",
        "shading": f"intrinsic:{folder}/final_weights.pt",
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """A study on SD v1.4: 4 prompts, 3 steps, images of 128 pixels. Nothing run yet."""
    study = Study.new(tmp_path_factory.mktemp("study"))
    study.shrink()
    elsewhere = tmp_path_factory.mktemp("weights")
    sd14().to(torch.float16).save_pretrained(elsewhere / "sd14")
    published = yaml.safe_load((ROOT / "models/sd14/model.yaml").read_text())
    del published["revision"]
    home = study.home / "models" / "full"
    home.mkdir()
    vgg = elsewhere / "vgg16.safetensors"
    save_file(seeded_state(read_keys(KEYS / "vgg16.txt")), vgg)
    changed = {"source": str(elsewhere / "sd14"), "image_size": 128, "steps": 3, "prompts": "prompts/four.csv"}
    changed |= {"classifier": f"vgg16:{vgg}", "classes": "prompts/two.csv"}
    (home / "model.yaml").write_text(yaml.safe_dump({**published, **changed}))
    splits = ("train", "train", "validation", "test")
    lines = [f"p{i},{i} red cubes,{i},{split}" for i, split in enumerate(splits)]
    (study.home / "prompts/four.csv").write_text("\n".join(["prompt_id,prompt,seed,split", *lines]) + "\n")
    classes = ["prompt,seed,class", "lemon,1,lemon", "orange fruit,2,orange"]
    (study.home / "prompts/two.csv").write_text("\n".join(classes) + "\n")
    study.settings("params.yaml", model="full", device="cpu", ridge__folds=2, ridge__splits=1)
    labels = random_label_models(elsewhere)
    study.settings("params.yaml", **{f"labels__{target}": spec for target, spec in labels.items()})
    return study


def test_the_whole_pipeline_runs_on_sd14_with_the_papers_label_models(study):
    study.run("dvc", "repro")
    images = np.stack([np.asarray(Image.open(study.home / f"data/images/p{i}.png")) for i in range(4)])
    assert images.shape == (4, 128, 128, 3)
    for target in ("saliency", "depth", "shading"):
        rows = list(csv.DictReader((study.home / f"plots/data/probe_{target}.csv").open()))
        assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert json.loads((study.home / "metrics/ridge.json").read_text())["depth"]["best"]["layer"] in TABLE_1
    top = list(csv.DictReader((study.home / "data/classify/top5.csv").open()))
    assert len(top) == 2 * 2 * 3 * 5 and {row["name"] for row in top} <= set(vgg16.CLASSES)
    probabilities = store.open_whole(study.home / "data/classify/probabilities")[:]
    assert probabilities.shape == (2, 2, 3, 1000)
    assert np.allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert (study.home / "plots/report.html").stat().st_size < 15e6
    # Peak of any one stage, in kB.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 16e6


def test_one_call_at_512_pixels_has_the_shapes_of_table_1(study):
    source = yaml.safe_load((study.home / "models/full/model.yaml").read_text())["source"]
    settings = {"image_size": 512, "steps": 15, "guidance": 7.5, "scheduler": "LMSDiscreteScheduler"}
    model = diffusion.open_model(source, **settings, dtype="float32", device="cpu")
    assert model.latent_shape == (4, 64, 64)
    assert sum(p.numel() for p in model.unet.parameters()) == 859_520_964
    shapes = {}
    with (
        torch.no_grad(),
        listening(model.unet, model.layers, lambda name, output: shapes.update({name: tuple(output.shape)})),
    ):
        context = diffusion.embed(model, ["", "a red cube"])
        model.unet(torch.zeros(2, 4, 64, 64), torch.tensor(999.0), context)
    assert shapes == {name: (2, *shape) for name, shape in TABLE_1.items()}
    assert shapes == {layer.name: (2, layer.grid(64) ** 2, layer.channels) for layer in model.layers}
