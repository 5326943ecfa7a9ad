"""Tabletop's text encoder and U-Net, trained together: SD v1.4's block types, schedule and objective."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, LMSDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scenescope.tabletop.autoencoder import encode
from scenescope.tabletop.training import fit
from scenescope.tabletop.words import MAX_TOKENS, build_tokenizer

UNCONDITIONAL = 0.1  # share of captions replaced by the empty one, for guidance (Ho and Salimans 2022)
SNR_CAP = 5.0  # loss weight min(SNR, 5) / SNR: noise levels stop competing (Hang et al. 2023, eq. 8)


def new_scheduler() -> LMSDiscreteScheduler:
    """SD v1.4's noise schedule under the sampler of the reference studies."""
    return LMSDiscreteScheduler(
        num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    )


def new_text_encoder(params: dict, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained CLIPTextModel for the tokenizer's vocabulary."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=params["text_width"],
            intermediate_size=4 * params["text_width"],
            num_hidden_layers=params["text_layers"],
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_unet(params: dict) -> UNet2DConditionModel:
    """An untrained U-Net with SD v1.4's 16 self-attention layers under SD v1.4's names."""
    return UNet2DConditionModel(
        sample_size=16,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=tuple(params["channels"]),
        layers_per_block=2,
        attention_head_dim=params["heads"],  # Diffusers' name for the number of heads
        cross_attention_dim=params["text_width"],
        norm_num_groups=16,
    )


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids [N, MAX_TOKENS], padded as StableDiffusionPipeline pads them."""
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def encoded_twice(model: AutoencoderKL, images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Posterior mean and deviation [2N, 4, s, s] (float16) of images and of their mirror images."""
    parts = [part for side in (images, images[:, :, ::-1]) for part in _halves(encode(model, side))]
    means, deviations = zip(*parts, strict=True)
    return torch.cat(means), torch.cat(deviations)


def _halves(parts: Iterator) -> Iterator:
    return ((mean.half(), deviation.half()) for mean, deviation in parts)


def train_denoiser(
    vae: AutoencoderKL, images: np.ndarray, captions: list[str], params: dict, seed: int, scratch: Path, curves: Path
) -> StableDiffusionPipeline:
    """Train on uint8 images [N, S, S, 3] and their captions; return the whole pipeline."""
    torch.manual_seed(seed)
    tokenizer, scheduler = build_tokenizer(), new_scheduler()
    model = nn.ModuleDict({"text": new_text_encoder(params, tokenizer), "unet": new_unet(params)})
    # Written out as matrix products, attention over a few hundred tokens trains 1.4 × as fast on a CPU.
    model["unet"].set_attn_processor(AttnProcessor())
    means, deviations = encoded_twice(vae, images)
    tokens = tokenize(tokenizer, captions)
    empty = tokenize(tokenizer, [""])
    signal = scheduler.alphas_cumprod.float()
    snr = signal / (1 - signal)

    def loss_of(model: nn.ModuleDict, step: int) -> Tensor:
        rows = pool[torch.randint(len(pool), (params["batch_size"],))]
        latents = means[rows].float() + deviations[rows].float() * torch.randn(len(rows), *means.shape[1:])
        latents = latents * vae.config.scaling_factor
        ids = torch.where(torch.rand(len(rows), 1) < UNCONDITIONAL, empty, tokens[rows % len(images)])
        timesteps = torch.randint(len(signal), (len(rows), 2))
        # Half of them from a triangle about the middle, where layout and shape are decided (cf. Esser et al. 2024).
        timesteps = torch.where(torch.rand(len(rows)) < 0.5, timesteps[:, 0], timesteps.sum(1) // 2)
        share = signal[timesteps][:, None, None, None]
        noise = torch.randn_like(latents)
        noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
        guess = model["unet"](noisy, timesteps, model["text"](ids).last_hidden_state).sample.float()
        weight = snr[timesteps].clamp(max=SNR_CAP) / snr[timesteps]
        return (weight * (guess - noise).square().mean((1, 2, 3))).mean()

    for i, chosen in enumerate(params["rounds"]):
        often = [times_shown(caption, chosen.get("shapes", {})) for caption in captions]
        pool = torch.arange(len(means)).repeat_interleave(torch.tensor(often + often))
        model = fit(
            model.requires_grad_(),
            loss_of,
            steps=chosen["steps"],
            learning_rate=chosen["learning_rate"],
            optimizer=chosen.get("optimizer", "adamw"),
            seed=seed + i,
            checkpoint=scratch / f"denoiser_{i + 1}.pt",
            curve=curves / f"denoiser_{i + 1}.csv",
            average=params["average"],
        )
        model = model.half().float()  # as it is kept: a round goes on from what a release holds
    return assemble(vae, tokenizer, model["text"], model["unet"])


def times_shown(caption: str, shapes: dict[str, int]) -> int:
    """How often a scene is shown while one of another shape is shown once."""
    return next((times for shape, times in shapes.items() if shape in caption.split()), 1)


def assemble(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """The parts as one StableDiffusionPipeline, without a safety checker."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
