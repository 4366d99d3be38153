"""Text conditions of each kind of pipeline, as its own pipeline class of diffusers encodes them.

Text encoders are gone from memory when a function returns. A pipeline's class is imported when it
is needed: each brings much along, and some of that talks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5EncoderModel,
    T5TokenizerFast,
)

from propagate.errors import InputError, ModelError
from propagate.features.diffusion.parts import has_part, load_network, load_part

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from propagate.features.hub import ResolvedModel

    Conditions = dict[str, Tensor]

PromptEncoder = Callable[["ResolvedModel", str, torch.dtype], "Conditions"]
"""(files, prompt, type of large text encoders) -> tensors with a leading axis of length 1."""


def encode_sd(files: ResolvedModel, prompt: str, dtype: torch.dtype) -> Conditions:
    """Stable Diffusion 1 and 2: CLIP's last hidden state after the final layer norm, fp32.

    Raises:
        InputError: the prompt is longer than the text encoder takes.
    """
    del dtype
    return {"encoder_hidden_states": encode_sd_prompts(files, [prompt])}


def encode_sd_prompts(
    files: ResolvedModel, prompts: Sequence[str]
) -> Float[Tensor, "prompts tokens c"]:
    """What `encode_sd` makes of several prompts, with the text encoder loaded once.

    Raises:
        InputError: a prompt is longer than the text encoder takes.
    """
    tokenizer = load_part(files, "tokenizer", CLIPTokenizer.from_pretrained)
    encoder = load_network(files, "text_encoder", CLIPTextModel).float()
    length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    ids = [_clip_ids(files, tokenizer, prompt, length) for prompt in prompts]
    return torch.cat([encoder(torch.tensor([one])).last_hidden_state for one in ids])


def encode_sdxl(files: ResolvedModel, prompt: str, dtype: torch.dtype) -> Conditions:
    """Stable Diffusion XL: last but one hidden states of two CLIPs side by side, and a pooled one.

    Raises:
        InputError: the prompt is longer than the text encoders take.
    """
    del dtype
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline(
        vae=None, unet=None, scheduler=None, **_two_clips(files, torch.float32)
    )
    _clip_ids(files, pipeline.tokenizer, prompt, pipeline.tokenizer.model_max_length)
    states, _, pooled, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
    return {"encoder_hidden_states": states, "text_embeds": pooled}


def encode_sd3(files: ResolvedModel, prompt: str, dtype: torch.dtype) -> Conditions:
    """Stable Diffusion 3: two CLIPs beside T5."""
    from diffusers import StableDiffusion3Pipeline

    pipeline = StableDiffusion3Pipeline(
        vae=None,
        transformer=None,
        scheduler=None,
        **_two_clips(files, dtype, projected=True),
        **_t5(files, "_3", dtype),
    )
    states, _, pooled, _ = pipeline.encode_prompt(
        prompt, prompt_2=None, prompt_3=None, do_classifier_free_guidance=False
    )
    return {"encoder_hidden_states": states, "pooled_projections": pooled}


def encode_flux(files: ResolvedModel, prompt: str, dtype: torch.dtype) -> Conditions:
    """Flux: T5, and CLIP's pooled output."""
    from diffusers import FluxPipeline

    pipeline = FluxPipeline(
        vae=None,
        transformer=None,
        scheduler=None,
        tokenizer=load_part(files, "tokenizer", CLIPTokenizer.from_pretrained),
        text_encoder=load_network(files, "text_encoder", CLIPTextModel).to(dtype),
        **_t5(files, "_2", dtype),
    )
    states, pooled, _ = pipeline.encode_prompt(prompt, prompt_2=None)
    return {"encoder_hidden_states": states, "pooled_projections": pooled}


def encode_pixart(files: ResolvedModel, prompt: str, dtype: torch.dtype) -> Conditions:
    """PixArt: T5 with its mask."""
    from diffusers import PixArtAlphaPipeline

    pipeline = PixArtAlphaPipeline(
        vae=None, transformer=None, scheduler=None, **_t5(files, "", dtype)
    )
    states, mask, _, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
    return {"encoder_hidden_states": states, "encoder_attention_mask": mask}


def encode_nothing(files: ResolvedModel, prompt: str, dtype: torch.dtype) -> Conditions:
    """For models without text.

    Raises:
        InputError: there is a prompt.
    """
    del dtype
    if prompt:
        raise InputError(
            f"prompt is {prompt!r}, and {files.name} attends to no text; leave it out."
        )
    return {}


def _clip_ids(files: ResolvedModel, tokenizer: Any, prompt: str, length: int) -> list[int]:
    ids: list[int] = tokenizer(prompt, padding="max_length", max_length=length).input_ids
    if len(ids) > length:
        raise InputError(
            f"The prompt has {len(ids) - 2} tokens, and the text encoder of {files.name} takes "
            f"{length - 2}; shorten it."
        )
    return ids


def _two_clips(
    files: ResolvedModel, dtype: torch.dtype, *, projected: bool = False
) -> dict[str, Any]:
    first = CLIPTextModelWithProjection if projected else CLIPTextModel
    return {
        "tokenizer": load_part(files, "tokenizer", CLIPTokenizer.from_pretrained),
        "tokenizer_2": load_part(files, "tokenizer_2", CLIPTokenizer.from_pretrained),
        "text_encoder": load_network(files, "text_encoder", first).to(dtype),
        "text_encoder_2": load_network(files, "text_encoder_2", CLIPTextModelWithProjection).to(
            dtype
        ),
    }


def _t5(files: ResolvedModel, suffix: str, dtype: torch.dtype) -> dict[str, Any]:
    if not has_part(files, f"text_encoder{suffix}"):
        raise ModelError(
            f"{files.name} has no text_encoder{suffix}, the T5 that its transformer attends to; "
            "download it again with all of its parts."
        )
    return {
        f"tokenizer{suffix}": load_part(
            files, f"tokenizer{suffix}", T5TokenizerFast.from_pretrained
        ),
        f"text_encoder{suffix}": load_network(
            files, f"text_encoder{suffix}", T5EncoderModel, dtype=dtype
        ),
    }
