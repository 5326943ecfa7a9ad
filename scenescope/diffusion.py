"""Open a Stable Diffusion model, sample trajectories, replay their steps and capture activations.

A trajectory is the latent before every step and after the last: [steps + 1, channels, s, s], in the
scheduler's own scale (for LMS, of standard deviation sigma), and float32 whatever the U-Net computes in. An
activation is a pure function of a latent, its step and its prompt, so trajectories are all that has to be kept.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import diffusers
import numpy as np
import torch
from diffusers import SchedulerMixin, StableDiffusionPipeline
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from scenescope.cpu import in_shares, prepare
from scenescope.errors import UserError
from scenescope.layers import Layer, attention_layers, listening


@dataclass(frozen=True)
class Model:
    """A pipeline with what its model.yaml says of how to run it."""

    pipeline: StableDiffusionPipeline
    image_size: int
    steps: int
    guidance: float

    @property
    def unet(self):
        return self.pipeline.unet

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        side = self.image_size // self.pipeline.vae_scale_factor
        return self.unet.config.in_channels, side, side

    @property
    def layers(self) -> list[Layer]:
        return attention_layers(self.unet.config)


# Images of 64 pixels, or as many pixels of larger ones, that are decoded at once. On a CPU the activations of more
# leave the cache and each takes half as long again; on a GPU a decoder of 512 pixels wants gigabytes an image.
DECODED_AT_ONCE = 8
# Schedulers whose every step is a function of the latent, the step and, for LMS, the steps before: nothing random.
SCHEDULERS = ("LMSDiscreteScheduler", "DDIMScheduler")


def open_model(
    source: str, *, image_size: int, steps: int, guidance: float, dtype: str, device: str, scheduler: str | None = None
) -> Model:
    """Load a pipeline folder in Diffusers' format; safetensors only, and no code from the folder.

    ``scheduler`` is one of ``SCHEDULERS``, with the noise schedule of the folder's own; None is the folder's own.
    Raises UserError if the folder is incomplete, its own scheduler is none of them, or a weight is not finite.
    """
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            source,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            local_files_only=True,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: not a whole Stable Diffusion pipeline: {' '.join(str(error).split())}") from None
    own = type(pipeline.scheduler).__name__
    if (scheduler or own) not in SCHEDULERS:
        raise UserError(f"{source}: its scheduler is {own}; say scheduler: {' or '.join(SCHEDULERS)} in model.yaml")
    for part in ("unet", "vae", "text_encoder"):
        for name, weight in getattr(pipeline, part).named_parameters():
            if not weight.isfinite().all():
                raise UserError(f"{source}: {part}: {name} holds numbers that are not finite; is the file damaged?")
    if scheduler:
        pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)
    pipeline.to(device)
    prepare(pipeline.unet)
    return Model(pipeline, image_size, steps, guidance)


def initial_noise(seeds: list[int], shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise [N, *shape], each drawn in float32 on the CPU from its own seed.

    These are the numbers of ``torch.manual_seed(seed); torch.randn(1, *shape)``, the reference's rule.
    """
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def embed(model: Model, prompts: list[str]) -> Tensor:
    """Text embeddings [N, tokens, width] of prompts, padded and cut off as Stable Diffusion does."""
    return torch.cat([_embedded(model.pipeline.tokenizer, model.pipeline.text_encoder, prompt) for prompt in prompts])


@lru_cache(maxsize=1024)  # the same prompts come again at every step
@torch.no_grad()
def _embedded(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, prompt: str) -> Tensor:
    # One prompt at a time: the bits do not depend on which others are of the batch.
    ids = tokenizer(
        prompt,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return text_encoder(ids.to(text_encoder.device)).last_hidden_state


def sample(model: Model, prompts: list[str], seeds: list[int]) -> Tensor:
    """Trajectories [N, steps + 1, channels, s, s] of one batch, with classifier-free guidance."""
    return sample_with_predictions(model, prompts, seeds)[0]


@torch.no_grad()
def sample_with_predictions(model: Model, prompts: list[str], seeds: list[int]) -> tuple[Tensor, Tensor]:
    """Trajectories as of ``sample``, and the clean latent that each step predicts [N, steps, channels, s, s]."""
    scheduler: SchedulerMixin = model.pipeline.scheduler
    scheduler.set_timesteps(model.steps)
    context = torch.cat([embed(model, [""]).expand(len(prompts), -1, -1), embed(model, prompts)])
    noise = initial_noise(seeds, model.latent_shape)
    latents = noise.to(model.device) * scheduler.init_noise_sigma
    trajectory, predictions = [latents], []
    for timestep in scheduler.timesteps:
        inputs = scheduler.scale_model_input(torch.cat([latents, latents]), timestep).to(model.unet.dtype)
        noises = in_shares(lambda z, c, t=timestep: model.unet(z, t, c).sample, inputs, context)
        plain, prompted = torch.cat(noises).float().chunk(2)
        guided = plain + model.guidance * (prompted - plain)
        step = scheduler.step(guided, timestep, latents)
        latents = step.prev_sample
        trajectory.append(latents)
        predictions.append(step.pred_original_sample)
    return torch.stack(trajectory, 1), torch.stack(predictions, 1)


@torch.no_grad()
def activations(model: Model, latents: Tensor, step: int, prompts: list[str], layers: list[Layer]) -> dict[str, Tensor]:
    """The activations {layer: [N, tokens, channels]} at one step, counted from 0, of latents [N, channels, s, s].

    Only the conditional half is computed: it is what the probes read, and no row of a batch depends on
    another. Nor is anything computed behind the last of the layers.
    """
    scheduler: SchedulerMixin = model.pipeline.scheduler
    scheduler.set_timesteps(model.steps)  # forgets the last step: input scaling looks its sigma up anew
    timestep = scheduler.timesteps[step]
    inputs = scheduler.scale_model_input(latents.to(model.device), timestep).to(model.unet.dtype)
    last = max(layers, key=model.layers.index).name
    share = threading.local()  # what the share of the batch that this thread computes has put out

    def receive(name: str, output: Tensor) -> None:
        share.seen[name] = output
        if name == last:
            raise _Enough

    def of_share(z: Tensor, context: Tensor) -> dict[str, Tensor]:
        share.seen = {}
        with suppress(_Enough):
            model.unet(z, timestep, context)
        return share.seen

    with listening(model.unet, layers, receive):
        seen = in_shares(of_share, inputs, embed(model, prompts))
    return {layer.name: torch.cat([outputs[layer.name] for outputs in seen]) for layer in layers}


def replay(model: Model, trajectories: Tensor, prompts: list[str], layers: list[Layer]) -> Iterator[dict[str, Tensor]]:
    """For every step in turn, the ``activations`` of one batch of trajectories [N, steps + 1, channels, s, s]."""
    for step in range(model.steps):
        yield activations(model, trajectories[:, step], step, prompts, layers)


class _Enough(Exception):
    """The U-Net has computed all that was asked for."""


@torch.no_grad()
def decode(model: Model, latents: Tensor) -> np.ndarray:
    """uint8 images [N, H, W, 3] of latents [N, channels, s, s], noisy ones included."""
    vae = model.pipeline.vae
    at_once = max(1, DECODED_AT_ONCE * 64**2 // model.image_size**2)
    pictures = []
    for part in latents.split(at_once):
        decoded = vae.decode(part.to(vae.device, vae.dtype) / vae.config.scaling_factor).sample.float()
        pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        pictures.append(pixels.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(pictures)
