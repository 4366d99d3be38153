"""From a user's options to a `PromptMatcher`."""

from __future__ import annotations

import torch

from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features.batching import Notify, notify_by_log
from propagate.features.device import resolve_device, resolve_dtype
from propagate.features.diffusion.kinds import kind_of
from propagate.features.diffusion.loading import load_pipeline
from propagate.features.hub import ResolvedModel
from propagate.features.registry import locate
from propagate.matching.prompt.matcher import PromptMatcher
from propagate.matching.prompt.network import PromptNetwork
from propagate.matching.prompt.settings import PromptSettings
from propagate.progress import Progress, no_progress

_OPTIONS = ("seed", "device", "dtype", "batch_size", "memory", "offline")


def create_prompt_matcher(
    model: str,
    options: ModelOptions,
    settings: PromptSettings,
    *,
    progress: Progress[int] = no_progress,
    notify: Notify = notify_by_log,
) -> PromptMatcher:
    """Load Stable Diffusion 1 or 2 for matching.

    Args:
        model: a name, folder or repository of `propagate.features.registry`.
        options: seed, device, dtype, batch_size, memory and offline; gradients want fp32, which
            is what "auto" means here.
        settings: how prompts are optimised.
        progress: told of each step.
        notify: receives a note when memory runs out.

    Raises:
        InputError: another option is set, or there is no such device.
        ModelError: weights are missing or wrong, or the network attends to no text.
    """
    foreign = [
        name
        for name in ModelOptions.__dataclass_fields__
        if name not in _OPTIONS and options.is_set(name)
    ]
    if foreign:
        raise InputError(
            f"{', '.join(foreign)} set, which prompt-optimised matching does not read; it takes "
            f"{', '.join(_OPTIONS)} of the model options."
        )
    found = locate(model, offline=options.offline)
    if found.family.name != "diffusers" or not _attends_to_text(found.files):
        raise ModelError(
            f"{model} has no UNet with cross-attention to one text, which prompt-optimised "
            "matching reads; take Stable Diffusion 1 or 2, such as --model sd14."
        )
    device = resolve_device(options.device)
    dtype = torch.float32 if options.dtype == "auto" else resolve_dtype(options.dtype, device)
    loaded = load_pipeline(found.files, prompt=None, dtype=dtype)
    return PromptMatcher(
        PromptNetwork(loaded, settings, device=device, dtype=dtype),
        settings,
        seed=options.seed,
        batch_size=options.batch_size,
        memory=options.memory,
        progress=progress,
        notify=notify,
    )


def _attends_to_text(files: ResolvedModel) -> bool:
    """Whether the network is that of Stable Diffusion 1 or 2, by its configuration alone."""
    config = kind_of(files)[1]
    plain = config["_class_name"] == "UNet2DConditionModel"
    return plain and not config.get("addition_embed_type")
