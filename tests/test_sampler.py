"""The way of a latent, held to the reference studies' formulae, written out here without a scheduler of Diffusers."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers import LMSDiscreteScheduler, PNDMScheduler, UNet2DConditionModel
from scipy.integrate import quad

from scenescope import diffusion

STEPS, GUIDANCE, SEEDS = 15, 7.5, [64140790, 3]
# What the scheduler's folder of SD v1.4 holds on the hub. It names another sampler than the one that is asked for.
PUBLISHED = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "trained_betas": None,
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


class Pipeline:
    """As much of a pipeline as sampling looks at: a small U-Net, random embeddings, SD v1.4's scheduler."""

    vae_scale_factor = 8

    def __init__(self, scheduler):
        torch.manual_seed(0)
        self.unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=12,
            attention_head_dim=2,
            norm_num_groups=8,
        ).eval()
        self.scheduler = scheduler


@pytest.fixture
def words() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {prompt: torch.randn(1, 5, 12) for prompt in ("", "a chair", "a lemon")}


@pytest.fixture
def model(monkeypatch, words):
    def embed(model, prompts):
        return torch.cat([words[prompt] for prompt in prompts]).to(model.unet.dtype)

    monkeypatch.setattr(diffusion, "embed", embed)
    scheduler = LMSDiscreteScheduler.from_config(PNDMScheduler(**PUBLISHED).config)
    return diffusion.Model(Pipeline(scheduler), image_size=64, steps=STEPS, guidance=GUIDANCE)


def schedule() -> tuple[np.ndarray, np.ndarray]:
    """Timesteps [15] and noise levels [16]: 1000 square-root-linear betas, sampled at 15 fractional places."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    levels = np.sqrt((1 - kept) / kept)
    timesteps = np.linspace(999, 0, STEPS)
    return timesteps, np.append(np.interp(timesteps, np.arange(1000), levels), 0.0)


def multistep_weight(levels: np.ndarray, step: int, order: int, back: int) -> float:
    """The integral over the step of the Lagrange polynomial of the derivative ``back`` steps ago."""

    def polynomial(level: float) -> float:
        others = [k for k in range(order) if k != back]
        return np.prod(
            [(level - levels[step - k]) / (levels[step - back] - levels[step - k]) for k in others], initial=1.0
        )

    return quad(polynomial, levels[step], levels[step + 1], epsrel=1e-6)[0]


@torch.no_grad()
def written_out(unet, unconditional, conditional, seed: int) -> torch.Tensor:
    """Latents [16, 4, 8, 8] of one image: the reference's loop, one image at a time."""
    timesteps, levels = schedule()
    torch.manual_seed(seed)
    latent = torch.randn(1, 4, 8, 8).double() * levels[0]
    derivatives, latents = [], [latent]
    for step in range(STEPS):
        inputs = torch.cat([latent, latent]) / (levels[step] ** 2 + 1) ** 0.5
        timestep = torch.tensor(timesteps[step], dtype=torch.float32)
        noise = unet(inputs.float(), timestep, torch.cat([unconditional, conditional])).sample.double()
        guided = noise[:1] + GUIDANCE * (noise[1:] - noise[:1])
        derivatives.append(guided)  # the prediction is of noise, which is the slope of the latent over the level
        order = min(step + 1, 4)
        for back in range(order):
            latent = latent + multistep_weight(levels, step, order, back) * derivatives[-1 - back]
        latents.append(latent)
    return torch.cat(latents)


def test_schedule_of_the_published_configuration_is_the_references(model):
    timesteps, levels = schedule()
    scheduler = model.pipeline.scheduler
    scheduler.set_timesteps(STEPS)
    assert np.allclose(scheduler.timesteps, timesteps, atol=1e-4)
    assert np.allclose(scheduler.sigmas, levels, rtol=1e-4)  # float32: 1 less a number close to 1
    assert timesteps[:2] == pytest.approx([999, 927.642857])
    assert levels[[0, 14, 15]] == pytest.approx([14.6146, 0.0292, 0], abs=1e-4)


def test_latents_of_all_steps_are_those_of_the_written_out_formulae(model, words):
    ours = diffusion.sample(model, ["a chair", "a lemon"], SEEDS)
    for found, prompt, seed in zip(ours, ("a chair", "a lemon"), SEEDS, strict=True):
        expected = written_out(model.unet, words[""], words[prompt], seed)
        difference = (found - expected).abs().amax((1, 2, 3)) / expected.abs().amax((1, 2, 3)).clamp(min=1)
        assert difference.max() < 1e-5, difference


@pytest.mark.parametrize("name", ["LMSDiscreteScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_replay_sees_what_sampling_saw_under_every_sampler(model, name, prediction):
    published = PNDMScheduler(**PUBLISHED, prediction_type=prediction).config
    model.pipeline.scheduler = getattr(diffusers, name).from_config(published)
    layers, seen = model.layers, []
    with diffusion.listening(model.unet, layers[-1:], lambda name, output: seen.append(output.chunk(2)[1])):
        trajectories = diffusion.sample(model, ["a chair", "a lemon"], SEEDS)
    assert trajectories.shape == (2, STEPS + 1, 4, 8, 8)
    assert trajectories.isfinite().all()
    replayed = list(diffusion.replay(model, trajectories, ["a chair", "a lemon"], layers))
    assert len(replayed) == STEPS
    for before, now in zip(seen, replayed, strict=True):
        assert torch.allclose(now[layers[-1].name], before, atol=1e-5)


def test_a_half_precision_unet_keeps_its_trajectory_in_single_precision(model):
    exact = diffusion.sample(model, ["a chair"], SEEDS[:1])
    model.pipeline.unet.to(torch.bfloat16)
    rounded = diffusion.sample(model, ["a chair"], SEEDS[:1])
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded[:, 0], exact[:, 0])
    assert 0 < (rounded - exact).abs().max() < 0.05 * exact.abs().max()
