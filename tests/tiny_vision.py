"""Vision models with a few random weights, in the layout that `save_pretrained` writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors.torch import load_file

if TYPE_CHECKING:
    from pathlib import Path

# Wide enough that no two blocks or channels are alike, small enough to be made in no time.
_WIDTHS = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
_DEPTH = {"num_hidden_layers": 3}
_TEXT = {
    **_WIDTHS,
    "num_hidden_layers": 1,
    "vocab_size": 99,
    "max_position_embeddings": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def save_tiny_vit(folder: Path, **config: Any) -> Path:
    """A ViT like DINO's: patch 8, pre-trained at 32x32, without a pooler."""
    settings = {**_WIDTHS, **_DEPTH, "image_size": 32, "patch_size": 8, **config}
    full = transformers.ViTConfig(**settings)
    return _save(_random(transformers.ViTModel, full, add_pooling_layer=False), folder)


def save_tiny_deit(folder: Path, **config: Any) -> Path:
    """A DeiT, which has a distillation token beside the class token."""
    settings = {**_WIDTHS, **_DEPTH, "image_size": 32, "patch_size": 8, **config}
    return _save(_random(transformers.DeiTModel, transformers.DeiTConfig(**settings)), folder)


def save_tiny_dinov2(folder: Path, **config: Any) -> Path:
    """A DINOv2: patch 14, which is no power of 2."""
    settings = {**_WIDTHS, **_DEPTH, "image_size": 56, "patch_size": 14, **config}
    return _save(_random(transformers.Dinov2Model, transformers.Dinov2Config(**settings)), folder)


def save_tiny_dinov2_registers(folder: Path, **config: Any) -> Path:
    """A DINOv2 with three register tokens."""
    settings = {**_WIDTHS, **_DEPTH, "image_size": 56, "patch_size": 14, **config}
    full = transformers.Dinov2WithRegistersConfig(num_register_tokens=3, **settings)
    return _save(_random(transformers.Dinov2WithRegistersModel, full), folder)


def save_tiny_dinov3(folder: Path, **config: Any) -> Path:
    """A DINOv3 ViT: rotary positions, two register tokens."""
    settings = {**_WIDTHS, **_DEPTH, "image_size": 64, "patch_size": 16, **config}
    full = transformers.DINOv3ViTConfig(num_register_tokens=2, **settings)
    return _save(_random(transformers.DINOv3ViTModel, full), folder)


def save_tiny_clip(folder: Path, *, vision_only: bool = False, **config: Any) -> Path:
    """A whole CLIP, image and text, or its vision model alone."""
    settings = {**_WIDTHS, **_DEPTH, "image_size": 64, "patch_size": 16, **config}
    if vision_only:
        vision = transformers.CLIPVisionConfig(projection_dim=8, **settings)
        return _save(_random(transformers.CLIPVisionModel, vision), folder)
    full = transformers.CLIPConfig(text_config=_TEXT, vision_config=settings, projection_dim=8)
    return _save(_random(transformers.CLIPModel, full), folder)


def save_tiny_siglip(folder: Path, **config: Any) -> Path:
    """A whole SigLIP, which has no class token."""
    settings = {**_WIDTHS, **_DEPTH, "image_size": 64, "patch_size": 16, **config}
    full = transformers.SiglipConfig(text_config=_TEXT, vision_config=settings)
    return _save(_random(transformers.SiglipModel, full), folder)


def save_tiny_swin(folder: Path, **config: Any) -> Path:
    """A Swin Transformer of three stages: strides 4, 8 and 16."""
    return _save(_random(transformers.SwinModel, transformers.SwinConfig(**_swin(config))), folder)


def save_tiny_swinv2(folder: Path, **config: Any) -> Path:
    """A Swin Transformer V2 of three stages: strides 4, 8 and 16."""
    full = transformers.Swinv2Config(**_swin(config))
    return _save(_random(transformers.Swinv2Model, full), folder)


def save_tiny_convnext(folder: Path, **config: Any) -> Path:
    """A ConvNeXt of three stages: strides 4, 8 and 16."""
    settings = {"hidden_sizes": [8, 12, 16], "depths": [1, 2, 1], "num_stages": 3, **config}
    full = transformers.ConvNextConfig(**settings)
    return _save(_random(transformers.ConvNextModel, full), folder)


def save_tiny_resnet(folder: Path, **config: Any) -> Path:
    """A ResNet of three stages: strides 4, 8 and 16."""
    settings = {"embedding_size": 8, "hidden_sizes": [8, 12, 16], "depths": [1, 2, 1], **config}
    full = transformers.ResNetConfig(layer_type="basic", **settings)
    return _save(_random(transformers.ResNetModel, full), folder)


def save_tiny_dinov3_convnext(folder: Path, **config: Any) -> Path:
    """A DINOv3 ConvNeXt, of four stages as all of them."""
    settings = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1], **config}
    full = transformers.DINOv3ConvNextConfig(**settings)
    return _save(_random(transformers.DINOv3ConvNextModel, full), folder)


def _swin(config: dict[str, Any]) -> dict[str, Any]:
    sizes = {"embed_dim": 8, "depths": [2, 1, 1], "num_heads": [1, 2, 2]}
    return {**sizes, "image_size": 64, "patch_size": 4, "window_size": 4, **config}


def _random(kind: Any, config: Any, **options: Any) -> Any:
    """A network whose every weight is random: the initial zeros and ones would hide mistakes."""
    network = kind(config, **options).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight += torch.randn(weight.shape, generator=generator) * 0.2
    return network


def _save(network: Any, folder: Path) -> Path:
    network.save_pretrained(folder)
    _write_preprocessor(folder)
    return folder


def pickle_weights(folder: Path) -> Path:
    """Turn a folder's weights into what older transformers saved: `pytorch_model.bin`."""
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    return folder


def _write_preprocessor(folder: Path) -> None:
    settings = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
