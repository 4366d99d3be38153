"""A tiny random Stable Diffusion pipeline, saved the way the hub holds real ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

if TYPE_CHECKING:
    from pathlib import Path

TEXT_WIDTH = 16
MERGES = (("c", "o"), ("co", "w</w>"))


def save_tiny_pipeline(folder: Path, *, seed: int = 0) -> Path:
    """Save UNet (4 levels), VAE (factor 8), text encoder, tokenizer and scheduler to `folder`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _unet().save_pretrained(folder / "unet")
        _vae().save_pretrained(folder / "vae")
        vocabulary = save_tokenizer(folder / "tokenizer")
        _text_encoder(vocabulary).save_pretrained(folder / "text_encoder")
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    ).save_pretrained(folder / "scheduler")
    return folder


def save_tokenizer(folder: Path) -> dict[str, int]:
    """Write a hand-made byte-pair vocabulary in CLIP's layout; return it."""
    letters = [_letter(byte) for byte in range(256)]
    merged = [first + second for first, second in MERGES]
    specials = ["<|startoftext|>", "<|endoftext|>"]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *merged, *specials]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    config = {
        "bos_token": specials[0],
        "eos_token": specials[1],
        "unk_token": specials[1],
        "pad_token": specials[1],
        "model_max_length": 77,
        "tokenizer_class": "CLIPTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return vocabulary


def _letter(byte: int) -> str:
    """The printable stand-in of a byte in byte-level vocabularies: itself, or from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte in printable:
        return chr(byte)
    return chr(256 + [b for b in range(256) if b not in printable].index(byte))


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=(1, 2, 2, 4),
        cross_attention_dim=TEXT_WIDTH,
        use_linear_projection=True,
    )


def _vae() -> AutoencoderKL:
    levels = 4
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
    )


def _text_encoder(vocabulary: dict[str, int]) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
    )
    return CLIPTextModel(config)
