"""The embedded model, sampled, replayed and read: one trajectory, the same numbers whichever way they are got."""

import json
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from scenescope import diffusion
from scenescope.cpu import LEAST_SHARE, in_shares
from scenescope.layers import attention_layers, listening

HOME = ROOT / "models" / "tabletop"
# Float32 products are summed in another order at another batch size; latents reach 15, and 15 steps add up.
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def model():
    return diffusion.open_model(str(HOME), image_size=64, steps=15, guidance=3.0, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(ROOT / "prompts" / "tabletop.csv")[:4]


@pytest.fixture(scope="module")
def trajectories(model, table):
    return diffusion.sample(model, table["prompt"].tolist(), table["seed"].tolist())


def test_plain_diffusers_opens_and_runs_the_folder(table, trajectories):
    pipeline = StableDiffusionPipeline.from_pretrained(HOME)
    images = pipeline(
        table["prompt"].tolist(),
        num_inference_steps=15,
        guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(int(seed)) for seed in table["seed"]],
        output_type="latent",
    ).images
    assert torch.allclose(images, trajectories[:, -1], atol=TOLERANCE)


def test_schedule_is_the_references(model):
    scheduler = model.pipeline.scheduler
    scheduler.set_timesteps(15)
    assert np.allclose(scheduler.timesteps[:2], [999, 927.642857], atol=1e-3)
    assert float(scheduler.timesteps[-1]) == 0
    assert scheduler.init_noise_sigma == pytest.approx(14.615, abs=1e-3)


def test_noise_is_the_references_rule_prompt_by_prompt():
    noise = diffusion.initial_noise([5, 64140790], (4, 64, 64))
    torch.manual_seed(64140790)
    assert torch.equal(noise[1], torch.randn(1, 4, 64, 64)[0])


def test_batch_size_changes_no_more_than_the_tolerance(model, table, trajectories):
    alone = diffusion.sample(model, table["prompt"].tolist()[2:3], table["seed"].tolist()[2:3])
    assert torch.equal(alone[0, 0], trajectories[2, 0])
    assert torch.allclose(alone[0], trajectories[2], atol=TOLERANCE)


def test_replay_gives_what_a_hook_sees_during_generation(model, table, trajectories):
    wanted = [layer for layer in model.layers if layer.name in ("enc1_l1", "mid_l1", "dec3_l2", "dec4_l1")]
    seen = {layer.name: [] for layer in wanted}
    with listening(model.unet, wanted, lambda name, output: seen[name].append(output.chunk(2)[1])):
        diffusion.sample(model, table["prompt"].tolist(), table["seed"].tolist())
    for step, found in enumerate(diffusion.replay(model, trajectories, table["prompt"].tolist(), wanted)):
        for layer in wanted:
            scale = seen[layer.name][step].abs().max()
            assert (found[layer.name] - seen[layer.name][step]).abs().max() < 1e-4 * scale, (step, layer.name)
    assert step == 14


def test_shares_of_a_batch_are_computed_side_by_side_and_are_the_same(model, table):
    """A batch that threads share gives each image what it gets from one thread, and every layer's outputs in order."""
    prompts = table["prompt"].tolist() * 9  # of 36 images, the second share begins with another prompt than the first
    latents = torch.randn(36, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    found = {}
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found[count] = diffusion.activations(model, latents, 3, prompts, model.layers)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert list(found[2]) == list(found[1]) == [layer.name for layer in model.layers]
    for name, alone in found[1].items():
        assert (found[2][name] - alone).abs().max() < 1e-4 * alone.abs().max(), name


def test_shares_are_in_order_and_no_smaller_than_they_should_be(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    batch = torch.arange(3 * LEAST_SHARE + 5)
    shares = in_shares(lambda part, same: (part, threading.get_ident()), batch, batch)
    assert torch.equal(torch.cat([part for part, _ in shares]), batch)
    assert len(shares) == 2, "a third would leave one of the four threads without work"
    ((whole, thread),) = in_shares(lambda part: (part, threading.get_ident()), batch[: 2 * LEAST_SHARE - 1])
    assert len(whole) == 2 * LEAST_SHARE - 1 and thread == threading.get_ident()
    with pytest.raises(ValueError, match="a share's own"):
        in_shares(lambda part: (_ for _ in ()).throw(ValueError("a share's own")), batch)


def test_layers_are_those_of_sd14_and_their_shapes_are_what_the_unet_puts_out(model, table, trajectories):
    names = [layer.name for layer in model.layers]
    assert names == [
        *(f"enc{block}_l{k}" for block in (1, 2, 3) for k in (1, 2)),
        "mid_l1",
        *(f"dec{block}_l{k}" for block in (2, 3, 4) for k in (1, 2, 3)),
    ]
    (dec4,) = [layer for layer in model.layers if layer.name == "dec4_l1"]
    assert dec4.module == "up_blocks.3.attentions.0.transformer_blocks.0.attn1.to_out.0"
    found = next(diffusion.replay(model, trajectories, table["prompt"].tolist(), model.layers))
    for layer in model.layers:
        assert found[layer.name].shape == (4, layer.grid(16) ** 2, layer.channels), layer.name


def test_layers_of_sd14_by_its_published_configuration():
    config = {
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    }
    table = {layer.name: (layer.grid(64) ** 2, layer.channels) for layer in attention_layers(config)}
    assert len(table) == 16
    for name, shape in {
        "enc1_l1": (4096, 320),
        "enc2_l2": (1024, 640),
        "enc3_l1": (256, 1280),
        "mid_l1": (64, 1280),
        "dec2_l3": (256, 1280),
        "dec3_l2": (1024, 640),
        "dec4_l1": (4096, 320),
    }.items():
        assert table[name] == shape, name


def test_words_of_the_prompt_decide_the_picture(model, table):
    prompts = [
        "a red sphere on a grassy floor with sky background",
        "a blue sphere on a grassy floor with sky background",
    ]
    red, blue = diffusion.decode(model, diffusion.sample(model, prompts, [1, 1])[:, -1]).astype(int)
    assert (red[..., 0] - red[..., 2]).max() > 80
    assert (blue[..., 2] - blue[..., 0]).max() > 80
    assert ((red[..., 0] - red[..., 2]) > 60).sum() > ((blue[..., 0] - blue[..., 2]) > 60).sum()


def test_a_tokenizer_in_the_files_of_sd14_gives_the_same_tokens(tmp_path):
    """Its repository has vocab.json and merges.txt, as Transformers wrote them in 2022, and no tokenizer.json."""
    ours = CLIPTokenizer.from_pretrained(HOME / "tokenizer")
    learned = json.loads((HOME / "tokenizer/tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(ours.get_vocab()))
    merges = [" ".join(pair) for pair in learned["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    config = {**special, "unk_token": "<|endoftext|>", "model_max_length": 24, "tokenizer_class": "CLIPTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = CLIPTokenizer.from_pretrained(tmp_path)
    for prompt in ("a Red  cube on a wooden floor, sky background", 'Café, "Blå" & more', ""):
        options = {"padding": "max_length", "truncation": True}
        assert theirs(prompt, **options).input_ids == ours(prompt, **options).input_ids
