"""Tiny random pipelines of every family beside Stable Diffusion 1 and 2, as the hub holds them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
)
from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from tests.tiny_pipeline import save_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLIP_WIDTH = 16
T5_WIDTH = 32


def save_tiny_sdxl(folder: Path) -> Path:
    """Two CLIPs, a UNet of three levels with added conditions."""
    with seeded():
        save_clip(folder, "", CLIPTextModel)
        save_clip(folder, "_2", CLIPTextModelWithProjection)
        save_vae(folder)
        UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 1, 2),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=(1, 2, 2),
            cross_attention_dim=2 * CLIP_WIDTH,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + CLIP_WIDTH,
        ).save_pretrained(folder / "unet")
    DDIMScheduler(beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")
    return folder


def save_tiny_sd3(folder: Path) -> Path:
    """Two CLIPs with projections, T5, an MMDiT whose last block drops the text."""
    with seeded():
        save_clip(folder, "", CLIPTextModelWithProjection)
        save_clip(folder, "_2", CLIPTextModelWithProjection)
        save_t5(folder, "_3")
        save_vae(folder, channels=8, shift_factor=0.06)
        SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=8,
            num_layers=3,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=T5_WIDTH,
            caption_projection_dim=16,
            pooled_projection_dim=2 * CLIP_WIDTH,
            out_channels=8,
            pos_embed_max_size=32,
        ).save_pretrained(folder / "transformer")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    return folder


def save_tiny_flux(folder: Path, *, guidance: bool = True) -> Path:
    """CLIP, T5, two double and two single blocks."""
    with seeded():
        save_clip(folder, "", CLIPTextModel)
        save_t5(folder, "_2")
        save_vae(folder, channels=4, shift_factor=0.1)
        FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=T5_WIDTH,
            pooled_projection_dim=CLIP_WIDTH,
            guidance_embeds=guidance,
            axes_dims_rope=(4, 6, 6),
        ).save_pretrained(folder / "transformer")
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    return folder


def save_tiny_pixart(folder: Path, *, sized: bool = False) -> Path:
    """T5 and a DiT with cross-attention; `sized` ones are told the image's size."""
    with seeded():
        save_t5(folder, "", pieces=True)
        save_vae(folder)
        PixArtTransformer2DModel(
            sample_size=128 if sized else 16,
            patch_size=2,
            num_layers=2,
            attention_head_dim=12 if sized else 8,
            num_attention_heads=2,
            cross_attention_dim=24 if sized else 16,
            caption_channels=T5_WIDTH,
            use_additional_conditions=sized,
        ).save_pretrained(folder / "transformer")
    DDPMScheduler().save_pretrained(folder / "scheduler")
    return folder


def save_tiny_dit(folder: Path) -> Path:
    """A DiT of ten classes."""
    with seeded():
        save_vae(folder)
        DiTTransformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            num_embeds_ada_norm=10,
        ).save_pretrained(folder / "transformer")
    DDIMScheduler().save_pretrained(folder / "scheduler")
    return folder


def save_tiny_ddpm(folder: Path) -> Path:
    """An unconditional UNet of pixels."""
    with seeded():
        UNet2DModel(
            sample_size=16,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ).save_pretrained(folder / "unet")
    DDPMScheduler().save_pretrained(folder / "scheduler")
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "sdxl": save_tiny_sdxl,
    "sd3": save_tiny_sd3,
    "flux": save_tiny_flux,
    "pixart": save_tiny_pixart,
    "dit": save_tiny_dit,
    "ddpm": save_tiny_ddpm,
}


class seeded:  # noqa: N801, reads as a statement
    """The same random weights whatever was drawn before."""

    def __enter__(self) -> None:
        self._fork = torch.random.fork_rng(devices=[])
        self._fork.__enter__()
        torch.manual_seed(0)

    def __exit__(self, *error: object) -> None:
        self._fork.__exit__(*error)


def save_vae(folder: Path, *, channels: int = 4, shift_factor: float | None = None) -> None:
    """A VAE of factor 8."""
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=channels,
        shift_factor=shift_factor,
    ).save_pretrained(folder / "vae")


def save_clip(folder: Path, suffix: str, kind: type) -> None:
    """A CLIP text encoder with its tokenizer."""
    vocabulary = save_tokenizer(folder / f"tokenizer{suffix}")
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=CLIP_WIDTH,
        intermediate_size=32,
        projection_dim=CLIP_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
    )
    kind(config).save_pretrained(folder / f"text_encoder{suffix}")


def save_t5(folder: Path, suffix: str, *, pieces: bool = False) -> None:
    """A T5 encoder with a tokenizer: of single letters, or in sentencepiece's format."""
    target = folder / f"tokenizer{suffix}"
    target.mkdir(parents=True)
    count = _save_pieces(target) if pieces else _save_letters(target)
    config = T5Config(
        vocab_size=count, d_model=T5_WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2
    )
    T5EncoderModel(config).save_pretrained(folder / f"text_encoder{suffix}")
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "extra_ids": 0}
    text = json.dumps({**names, "tokenizer_class": "T5Tokenizer", "model_max_length": 512})
    (target / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _save_letters(target: Path) -> int:
    pieces = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz ,."]
    model = Unigram([(piece, -float(rank)) for rank, piece in enumerate(pieces)], unk_id=2)
    Tokenizer(model).save(str(target / "tokenizer.json"))
    return len(pieces)


def _save_pieces(target: Path) -> int:
    SentencePieceTrainer.train(
        sentence_iterator=iter(["a brown cow grazes", "the quick dog jumps over a fox"] * 20),
        model_prefix=str(target / "spiece"),
        vocab_size=30,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (target / "spiece.vocab").unlink()
    return 30
