"""The classes of denoising networks that are known, and how each is put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import diffusers

from propagate.errors import ModelError
from propagate.features.diffusion import denoisers, text
from propagate.features.diffusion.parts import has_part, read_config

if TYPE_CHECKING:
    from torch import Tensor, nn

    from propagate.features.diffusion.model import Denoiser
    from propagate.features.hub import ResolvedModel

    Config = dict[str, Any]
    Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Kind:
    """One class of denoising networks.

    Args:
        encode: encodes the prompt.
        build: (network, its configuration, conditions, pixels per latent) -> denoiser.
        shapes: configuration -> shapes of the conditions, for listing layers without weights.
        patches: latents that the network takes as one input of more channels.
    """

    encode: text.PromptEncoder
    build: Callable[[nn.Module, Config, dict[str, Tensor], int], Denoiser]
    shapes: Callable[[Config], Shapes]
    patches: int = 1

    def channels(self, config: Config) -> int:
        """Channels of the latents."""
        return int(config["in_channels"]) // self.patches


def kind_of(files: ResolvedModel) -> tuple[str, Config, Kind]:
    """Sub-folder, configuration and kind of a pipeline's denoising network.

    Raises:
        ModelError: the configuration is damaged, or of a class that is not known here.
    """
    sub = "unet" if has_part(files, "unet") else "transformer"
    config = read_config(files, f"{sub}/config.json")
    name = str(config.get("_class_name"))
    if name == "Transformer2DModel":
        # Older repositories of DiT and PixArt name the class that both once shared.
        name = f"{'PixArt' if has_part(files, 'text_encoder') else 'DiT'}Transformer2DModel"
        config = {**config, "_class_name": name}
    if name == "UNet2DConditionModel" and config.get("addition_embed_type") == "text_time":
        return sub, config, _SDXL
    if name not in _KINDS:
        raise ModelError(
            f"The denoising network of {files.name} is a {name}; known here are "
            f"{', '.join(_KINDS)}."
        )
    return sub, config, _KINDS[name]


def network_class(config: Config) -> Any:
    """The class of diffusers that a configuration names; one of those that are known."""
    return getattr(diffusers, config["_class_name"])


def _text_shapes(key: str, **more: str) -> Callable[[Config], Shapes]:
    """Shapes of 77 tokens as wide as `config[key]`, and of vectors as wide as other entries."""

    def shapes(config: Config) -> Shapes:
        vectors = {name: (1, int(config[entry])) for name, entry in more.items()}
        return {"encoder_hidden_states": (1, 77, int(config[key])), **vectors}

    return shapes


def _sdxl_shapes(config: Config) -> Shapes:
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    return {**_text_shapes("cross_attention_dim")(config), "text_embeds": (1, pooled)}


def _build_unet(
    network: nn.Module, config: Config, conditions: dict[str, Tensor], factor: int
) -> Denoiser:
    del config
    return denoisers.ConditionalUNet(network, conditions, factor=factor)


_POOLED = _text_shapes("joint_attention_dim", pooled_projections="pooled_projection_dim")
_SDXL = Kind(text.encode_sdxl, _build_unet, _sdxl_shapes)
_KINDS = {
    "UNet2DConditionModel": Kind(text.encode_sd, _build_unet, _text_shapes("cross_attention_dim")),
    "UNet2DModel": Kind(
        text.encode_nothing,
        lambda network, config, _conditions, _factor: denoisers.UnconditionalUNet(
            network, multiple=2 ** (len(config["block_out_channels"]) - 1)
        ),
        lambda _config: {},
    ),
    "DiTTransformer2DModel": Kind(
        text.encode_nothing,
        lambda network, config, _conditions, _factor: denoisers.ClassDiT(
            network, multiple=config["patch_size"], null_class=config["num_embeds_ada_norm"]
        ),
        lambda _config: {},
    ),
    "PixArtTransformer2DModel": Kind(
        text.encode_pixart,
        lambda network, config, conditions, factor: denoisers.PixArt(
            network, conditions, multiple=config["patch_size"], factor=factor
        ),
        _text_shapes("caption_channels"),
    ),
    "SD3Transformer2DModel": Kind(
        text.encode_sd3,
        lambda network, config, conditions, _factor: denoisers.MMDiT(
            network,
            conditions,
            multiple=config["patch_size"],
            largest=config["pos_embed_max_size"] * config["patch_size"],
        ),
        _POOLED,
    ),
    "FluxTransformer2DModel": Kind(
        text.encode_flux,
        lambda network, config, conditions, _factor: denoisers.Flux(
            network, conditions, guidance=bool(config.get("guidance_embeds"))
        ),
        _POOLED,
        patches=4,
    ),
}
