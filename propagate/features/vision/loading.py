"""Loads the image network of a transformers repository, without running any code of it."""

from __future__ import annotations

import inspect
import json
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import MODEL_MAPPING, AutoConfig
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from propagate.errors import ModelError
from propagate.features.quiet import quiet_libraries
from propagate.features.vision.calling import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Float
    from torch import Tensor, nn

    from propagate.features.hub import ResolvedModel

_PREPROCESSOR = "preprocessor_config.json"
# Their tokens are in an order that isn't the image's: maps would be scrambled without a sign.
_UNORDERED = ("hiera", "vit_mae")


@dataclass(frozen=True)
class Normalisation:
    """How a network wants its pixels: (pixel * scale - mean) / std, per channel.

    Args:
        mean: of red, green and blue.
        std: of red, green and blue; none is 0.
        scale: of the pixels' 0-255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1 / 255

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Normalised pixels, in the type and on the device of `pixels`."""
        mean, std = (pixels.new_tensor(three)[:, None, None] for three in (self.mean, self.std))
        return (pixels * self.scale - mean) / std


def load_network(
    files: ResolvedModel, dtype: torch.dtype, *, layer_norm_eps: float | None = None
) -> nn.Module:
    """The image network, in eval mode on the CPU; of CLIP and SigLIP the vision model alone.

    Args:
        files: `config.json` and the weights.
        dtype: what its weights become.
        layer_norm_eps: overrules the configuration's.

    Raises:
        ModelError: it is no vision model, a file is damaged, or the weights lack tensors.
    """
    config = read_config(files)
    if layer_norm_eps is not None:
        config.layer_norm_eps = layer_norm_eps
    kind, options = _kind_of(config, files.name)
    return load_pretrained(files, kind, config, dtype, **options)


def load_pretrained(
    files: ResolvedModel, kind: Any, config: Any, dtype: torch.dtype, **options: Any
) -> nn.Module:
    """A network of a class of transformers, in eval mode on the CPU.

    Args:
        files: `config.json` and the weights.
        kind: the class.
        config: its configuration.
        dtype: what its weights become.
        options: of the class.

    Raises:
        ModelError: a file is damaged, or the weights lack tensors.
    """
    network, info = _guarded(
        files,
        kind.from_pretrained,
        config=config,
        torch_dtype=dtype,  # transformers 4 knows no `dtype`, and 5 knows both
        variant=files.layout.variants.get(""),
        use_safetensors=not is_pickled(files),
        weights_only=True,
        output_loading_info=True,
        **options,
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"The weights of {files.name} lack {len(missing)} tensors that its config.json asks "
            f"for, such as {missing[0]}; download it again."
        )
    loaded: nn.Module = network.requires_grad_(False).eval()
    return loaded


def empty_network(files: ResolvedModel) -> nn.Module:
    """The image network without weights, on the meta device; reads `config.json` alone.

    Raises:
        ModelError: it is no vision model.
    """
    config = read_config(files)
    kind, options = _kind_of(config, files.name)
    with quiet_libraries(), torch.device("meta"):
        network: nn.Module = kind(config, **options)
    return network.eval()


def read_config(files: ResolvedModel) -> Any:
    """The configuration of the image network.

    Raises:
        ModelError: it can't be read, or belongs to no vision model of this transformers.
    """
    config = read_any_config(files)
    config = getattr(config, "vision_config", config)
    if config.model_type in _UNORDERED:
        raise ModelError(
            f"{files.name} is a {config.model_type}, whose tokens are not in the image's order; "
            "choose another model."
        )
    if getattr(config, "num_channels", 3) != 3:
        raise ModelError(
            f"{files.name} takes images of {config.num_channels} channels; choose a model for RGB "
            "images, which have 3."
        )
    return config


def read_any_config(files: ResolvedModel) -> Any:
    """The configuration of whatever model of transformers it is.

    Raises:
        ModelError: it can't be read.
    """
    return _guarded(files, AutoConfig.from_pretrained)


def read_normalisation(files: ResolvedModel) -> Normalisation:
    """What `preprocessor_config.json` says of pixels, or what models of the kind are trained with.

    Raises:
        ModelError: the file can't be read, or says something else than three numbers.
    """
    usual = _usual_normalisation(read_config(files).model_type)
    if _PREPROCESSOR not in files.layout.files:
        return usual
    path = files.folder / _PREPROCESSOR
    try:
        settings = json.loads(path.read_text("utf-8"))
        scale = float(settings.get("rescale_factor", usual.scale))
        if not settings.get("do_normalize", True):
            return Normalisation((0.0,) * 3, (1.0,) * 3, scale)
        mean = _three(settings.get("image_mean", usual.mean))
        std = _three(settings.get("image_std", usual.std))
        if 0 in std:
            raise ValueError("image_std has a 0")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} can't be used ({error}): image_mean and image_std must be three numbers each; "
            "download it again, or remove it to take the usual ones."
        ) from error
    return Normalisation(mean, std, scale)


def _three(values: Sequence[float]) -> tuple[float, ...]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _usual_normalisation(model_type: str) -> Normalisation:
    if "clip" in model_type:
        return Normalisation(tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD))
    if "siglip" in model_type:
        return Normalisation(tuple(IMAGENET_STANDARD_MEAN), tuple(IMAGENET_STANDARD_STD))
    return Normalisation(tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD))


def _kind_of(config: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """The network's class, and what to construct it with."""
    kind = MODEL_MAPPING.get(type(config), None)
    if getattr(kind, "main_input_name", None) != "pixel_values":
        raise ModelError(
            f"{name} is a {config.model_type}, which is no vision model that transformers loads on "
            "its own; choose one that takes images alone, such as a ViT, DINOv2 or ConvNeXt."
        )
    # The pooler comes after the last block, and weights of DINO have none.
    poolable = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return kind, {"add_pooling_layer": False} if poolable else {}


def is_pickled(files: ResolvedModel) -> bool:
    """Whether a model's weights are a pickle of tensors."""
    return not any(name.endswith(".safetensors") for name in files.layout.files)


def _guarded(files: ResolvedModel, load: Callable[..., Any], **options: Any) -> Any:
    """Call a loader of transformers for the model's folder; its errors become ModelError."""
    options = {"local_files_only": True, "trust_remote_code": False, **options}
    try:
        with quiet_libraries():
            return load(files.folder, **options)
    except Exception as error:  # transformers raises whatever its parsers and torch do
        if _was_refused(error):
            raise ModelError(
                f"The .bin weights of {files.name} hold more than tensors, and are refused because "
                "loading them could run any code; take a repository that has .safetensors files."
            ) from error
        raise ModelError(
            f"{files.name} could not be loaded ({first_line(error)}); its files are damaged or not "
            "of a vision model that transformers has, so download it again or choose another."
        ) from error


def _was_refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, pickle.UnpicklingError):
            return True
        error = error.__cause__ or error.__context__
    return False
