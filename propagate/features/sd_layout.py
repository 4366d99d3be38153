"""Which files make up a Stable Diffusion pipeline, in a folder or in a hub repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from propagate.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

WEIGHTS: Mapping[str, str] = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
"""Stem of the weight files of every sub-folder that has weights."""

_CONFIGS = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)
_TOKENIZERS = ({"tokenizer/vocab.json", "tokenizer/merges.txt"}, {"tokenizer/tokenizer.json"})
_TOKENIZER_TEXT = re.compile(r"tokenizer/[^/]+\.(json|txt)")
_SUBFOLDERS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True)
class Layout:
    """The files that are needed of a pipeline.

    Args:
        files: paths below the pipeline's folder, with forward slashes.
        variants: for every sub-folder with weights, the variant to load: None is the plain
            (fp32) file, "fp16" the half-precision one.
    """

    files: tuple[str, ...]
    variants: Mapping[str, str | None]


def scan(folder: Path) -> list[str]:
    """Files in the sub-folders of a pipeline, relative to `folder`, with forward slashes."""
    return sorted(
        path.relative_to(folder).as_posix()
        for name in _SUBFOLDERS
        if (folder / name).is_dir()
        for path in (folder / name).iterdir()
        if path.is_file()
    )


def select(present: Collection[str], name: str) -> Layout:
    """Choose the files to load among those that are `present`.

    Plain weights go before fp16 ones; pickled weights never count.

    Args:
        present: paths below the pipeline's folder, with forward slashes.
        name: what the error calls the pipeline.

    Raises:
        ModelError: a file is missing, or weights exist as `.bin` only.
    """
    missing = next((config for config in _CONFIGS if config not in present), None)
    if missing is None and not any(files <= set(present) for files in _TOKENIZERS):
        missing = "tokenizer/vocab.json with tokenizer/merges.txt"
    if missing is not None:
        raise ModelError(
            f"{name} is not a Stable Diffusion pipeline: it has no {missing}; expected are the "
            f"sub-folders {', '.join(_SUBFOLDERS)}, as `save_pretrained` of diffusers writes them."
        )
    weights = {sub: _weight_file(sub, present, name) for sub in WEIGHTS}
    texts = [path for path in sorted(present) if _TOKENIZER_TEXT.fullmatch(path)]
    return Layout(
        files=(*_CONFIGS, *texts, *(path for path, _ in weights.values())),
        variants={sub: variant for sub, (_, variant) in weights.items()},
    )


def _weight_file(sub: str, present: Collection[str], name: str) -> tuple[str, str | None]:
    for variant, dot in ((None, ""), ("fp16", ".fp16")):
        path = f"{sub}/{WEIGHTS[sub]}{dot}.safetensors"
        if path in present:
            return path, variant
    inside = (path for path in sorted(present) if path.startswith(f"{sub}/"))
    pickled = next((path for path in inside if path.endswith(".bin")), None)
    if pickled is not None:
        raise ModelError(
            f"{name} has the weights of its {sub} as {pickled} only, and pickled weights are "
            "refused because loading them can run any code; save the pipeline again with "
            "`safe_serialization=True`, or take a repository that has .safetensors files."
        )
    raise ModelError(
        f"{name} is not a complete Stable Diffusion pipeline: it has no "
        f"{sub}/{WEIGHTS[sub]}.safetensors."
    )
