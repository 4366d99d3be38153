"""Vision models of transformers: DINO, DINOv2, DINOv3, OpenCLIP, and any other ViT or ConvNet."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from propagate.config import Facet, ModelOptions, Task
from propagate.errors import ModelError
from propagate.features.card import Family, Layout, ModelCard, Repository
from propagate.features.layout import weight_files

if TYPE_CHECKING:
    from propagate.features.card import LayerInfo
    from propagate.features.hub import ResolvedModel
    from propagate.features.vision.extractor import VisionExtractor

_CONFIG = "config.json"
_PREPROCESSOR = "preprocessor_config.json"
_PICKLED = "pytorch_model.bin"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model.fp16.safetensors", _PICKLED)
_DINO = "facebook/dino-vit"
_ALIASES = {
    "dino-b8": "dino",
    "dinov2-b": "dinov2",
    "dinov3-b": "dinov3",
    "openclip-h14": "openclip",  # DIFT's choice
}


def _load(card: ModelCard, files: ResolvedModel, options: ModelOptions) -> VisionExtractor:
    from propagate.features.vision.extractor import VisionExtractor

    dino = any(repository.repo_id.startswith(_DINO) for repository in card.repositories)
    return VisionExtractor(files, options, dino=dino)


def _layers(files: ResolvedModel) -> list[LayerInfo]:
    from propagate.features.vision.layers import vision_layers

    return vision_layers(files)


def _matches(present: Collection[str]) -> bool:
    pipeline = any(
        path.startswith(("model_index.json", "unet/", "transformer/")) for path in present
    )
    weights = any(name in present for name in (*_WEIGHTS, f"{_PICKLED}.index.json"))
    return _CONFIG in present and weights and not pipeline


def _select(present: Collection[str], name: str) -> Layout:
    if _CONFIG not in present:
        raise ModelError(f"{name} is not a complete model: it has no {_CONFIG}.")
    try:
        weights, variant = weight_files("", "model", present, name)
    except ModelError:
        # DINO's first models and some of OpenCLIP's are published so. They are read as tensors
        # only: what would run code is refused.
        weights, variant = _pickled(present), None
        if not weights:
            raise
    extra = [_PREPROCESSOR] if _PREPROCESSOR in present else []
    return Layout((_CONFIG, *extra, *weights), {"": variant})


def _pickled(present: Collection[str]) -> tuple[str, ...]:
    if _PICKLED in present:
        return (_PICKLED,)
    index = f"{_PICKLED}.index.json"
    shards = sorted(
        path for path in present if path.startswith("pytorch_model-0") and path.endswith(".bin")
    )
    return (index, *shards) if index in present and shards else ()


def _knobs(
    propagation: int, pairs: int, *, layer: str | None = None, facet: Facet | None = None
) -> dict[Task, ModelOptions]:
    """Short side for clips, side of a square for pairs; layer and facet for semantic ones."""
    square = (pairs, pairs)
    return {
        "propagation": ModelOptions(short_side=propagation),
        "semantic": ModelOptions(input_size=square, layer=layer, facet=facet),
        "geometric": ModelOptions(input_size=square),
    }


def _aliases(name: str) -> tuple[str, ...]:
    return (_ALIASES[name],) if name in _ALIASES else ()


def _dino_card(size: str, patch: int, revision: str, size_mb: int, *, pairs: int) -> ModelCard:
    return ModelCard(
        name=f"dino-{size}{patch}",
        aliases=_aliases(f"dino-{size}{patch}"),
        summary=f"DINO ViT-{size.upper()}/{patch}, self-supervised on ImageNet; 480p as in its "
        "DAVIS protocol",
        licence="Apache-2.0",
        repositories=(Repository(f"{_DINO}{size}{patch}", revision),),
        size_mb=size_mb,
        stride=patch,
        # The last block for clips, as DINO's evaluation; block 9's keys for pairs, as "Deep ViT
        # Features as Dense Visual Descriptors" (Amir et al. 2021) has it for ViT-S/8.
        knobs=_knobs(480, pairs, layer="9", facet="key"),
    )


def _dinov2_card(size: str, name: str, revision: str, size_mb: int) -> ModelCard:
    registers = "with-registers" in name
    return ModelCard(
        name=f"dinov2-{size}{'-reg' if registers else ''}",
        aliases=_aliases(f"dinov2-{size}{'-reg' if registers else ''}"),
        summary=f"DINOv2 ViT-{size if size == 'g' else size.upper()}/14"
        f"{' with registers' if registers else ''}, self-supervised on LVD-142M",
        licence="Apache-2.0",
        repositories=(Repository(f"facebook/{name}", revision),),
        size_mb=size_mb,
        stride=14,
        # 840x840 and the last block for pairs, as "A Tale of Two Features" (Zhang et al. 2023) has
        # them for ViT-B/14.
        knobs=_knobs(840, 840),
    )


def _dinov3_card(size: str, architecture: str, revision: str, size_mb: int, what: str) -> ModelCard:
    return ModelCard(
        name=f"dinov3-{size}",
        aliases=_aliases(f"dinov3-{size}"),
        summary=f"DINOv3 {what}, self-supervised on LVD-1689M; gated",
        licence="DINOv3 License",
        repositories=(Repository(f"facebook/dinov3-{architecture}-pretrain-lvd1689m", revision),),
        size_mb=size_mb,
        stride=16,
        # Short side 960 for clips, as in DINOv3's notebook for tracking.
        knobs=_knobs(960, 960),
    )


def _openclip_card(
    size: str,
    name: str,
    revision: str,
    size_mb: int,
    *,
    sides: tuple[int, int],
    stride: int,
) -> ModelCard:
    return ModelCard(
        name=f"openclip-{size}",
        aliases=_aliases(f"openclip-{size}"),
        summary=f"OpenCLIP ViT-{'/'.join(name.split('-')[2:4])}, trained with texts on LAION-2B",
        licence="MIT",
        repositories=(Repository(f"laion/{name}", revision),),
        size_mb=size_mb,
        stride=stride,
        knobs=_knobs(*sides),
    )


# Where a revision is "main" the commit is not known.
_CARDS = (
    _dino_card("s", 16, "abe3b354cb6a9b6f146096b14a4a9d7eecbcb4bd", 87, pairs=768),
    _dino_card("s", 8, "main", 87, pairs=480),
    _dino_card("b", 16, "f205d5d8e640a89a2b8ef0369670dfc37cc07fc2", 343, pairs=768),
    _dino_card("b", 8, "main", 343, pairs=480),
    _dinov2_card("s", "dinov2-small", "ed25f3a31f01632728cabb09d1542f84ab7b0056", 88),
    _dinov2_card("b", "dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415", 346),
    _dinov2_card("l", "dinov2-large", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c", 1218),
    _dinov2_card("g", "dinov2-giant", "611a9d42f2335e0f921f1e313ad3c1b7178d206d", 4546),
    _dinov2_card(
        "s", "dinov2-with-registers-small", "0d9846e56b43a21fa46d7f3f5070f0506a5795a9", 88
    ),
    _dinov2_card(
        "b", "dinov2-with-registers-base", "a1d738ccfa7ae170945f210395d99dde8adb1805", 346
    ),
    _dinov2_card(
        "l", "dinov2-with-registers-large", "e4c89a4e05589de9b3e188688a303d0f3c04d0f3", 1217
    ),
    _dinov3_card("s", "vits16", "114c1379950215c8b35dfcd4e90a5c251dde0d32", 86, "ViT-S/16"),
    _dinov3_card("b", "vitb16", "5931719e67bbdb9737e363e781fb0c67687896bc", 343, "ViT-B/16"),
    _dinov3_card("l", "vitl16", "ea8dc2863c51be0a264bab82070e3e8836b02d51", 1213, "ViT-L/16"),
    _dinov3_card("7b", "vit7b16", "b80367753773648a6793235ab9c65cdbb029506f", 26864, "ViT-7B/16"),
    _dinov3_card("convnext-b", "convnext-base", "main", 350, "ConvNeXt-B"),
    _openclip_card(
        "b32",
        "CLIP-ViT-B-32-laion2B-s34B-b79K",
        "1a25a446712ba5ee05982a381eed697ef9b435cf",
        605,
        sides=(960, 960),
        stride=32,
    ),
    _openclip_card(
        "b16",
        "CLIP-ViT-B-16-laion2B-s34B-b88K",
        "7288da5a0d6f0b51c4a2b27c624837a9236d0112",
        599,
        sides=(480, 768),
        stride=16,
    ),
    _openclip_card(
        "l14",
        "CLIP-ViT-L-14-laion2B-s32B-b82K",
        "1627032197142fbe2a7cfec626f4ced3ae60d07a",
        1711,
        sides=(480, 672),
        stride=14,
    ),
    _openclip_card(
        "h14",
        "CLIP-ViT-H-14-laion2B-s32B-b79K",
        "1c2b8495b28150b8a4922ee1c8edee224c284c0c",
        3945,
        sides=(480, 672),
        stride=14,
    ),
    _openclip_card(
        "bigg14",
        "CLIP-ViT-bigG-14-laion2B-39B-b160k",
        "743c27bd53dfe508a0ade0f50698f99b39d03bec",
        10158,
        sides=(480, 672),
        stride=14,
    ),
)

FAMILY = Family(
    name="vision",
    cards=_CARDS,
    options=frozenset({"layer", "facet"}),
    matches=_matches,
    select=_select,
    load=_load,
    layers=_layers,
)
