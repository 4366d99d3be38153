"""Loads single parts of a pipeline's folder, from safetensors alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from propagate.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from propagate.features.hub import ResolvedModel


def has_part(files: ResolvedModel, sub: str) -> bool:
    """Whether a pipeline has a sub-folder called `sub`."""
    return any(name.startswith(f"{sub}/") for name in files.layout.files)


def read_config(files: ResolvedModel, name: str) -> dict[str, Any]:
    """A configuration file of a pipeline.

    Raises:
        ModelError: it is no JSON object.
    """
    path = files.folder / name
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} could not be loaded ({type(error).__name__}: {error}); it is damaged, so "
            "download it again."
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} could not be loaded: it is no JSON object; download it again.")
    return config


def load_diffusers(files: ResolvedModel, sub: str, kind: Any, dtype: torch.dtype) -> Any:
    """A network of diffusers, frozen and in eval mode; see `load_network`."""
    return load_network(files, sub, kind, torch_dtype=dtype)


def load_network(files: ResolvedModel, sub: str, kind: Any, **options: Any) -> Any:
    """A network of diffusers or transformers, frozen and in eval mode.

    Raises:
        ModelError: it is damaged, does not fit its configuration, or lacks tensors.
    """
    network, info = load_part(
        files,
        sub,
        kind.from_pretrained,
        variant=files.layout.variants[sub],
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    if info["missing_keys"]:
        raise ModelError(
            f"The weights of {files.name}/{sub} lack {len(info['missing_keys'])} tensors that its "
            f"config.json asks for, such as {min(info['missing_keys'])}; download it again."
        )
    return network.requires_grad_(False).eval()


def load_part(files: ResolvedModel, sub: str, load: Callable[..., Any], **options: Any) -> Any:
    """What `load`, a `from_pretrained`, makes of a sub-folder.

    Raises:
        ModelError: for whatever it raises.
    """
    try:
        return load(files.folder, subfolder=sub, local_files_only=True, **options)
    except Exception as error:  # the tokenizers' parser raises bare `Exception`
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise ModelError(
            f"{files.name}/{sub} could not be loaded ({type(error).__name__}: {first}); its files "
            "are damaged or of another kind of pipeline, so download them again."
        ) from error


def check_safetensors(files: ResolvedModel) -> None:
    """Compare the header of every weight file with its size.

    Raises:
        ModelError: naming the file that is damaged.
    """
    for name in files.layout.files:
        if name.endswith(".safetensors"):
            _check_file(files.folder / name)


def _check_file(path: Path) -> None:
    try:
        with safe_open(path, framework="pt"):  # reads the header and compares it with the size
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is damaged or incomplete ({error}); delete it and download it again."
        ) from error
