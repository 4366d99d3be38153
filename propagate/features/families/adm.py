"""DIFT_adm: OpenAI's ADM, trained on ImageNet without labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from propagate.config import ModelOptions, Task
from propagate.errors import ModelError
from propagate.features.card import Download, Family, Layout, ModelCard

if TYPE_CHECKING:
    from propagate.features.card import LayerInfo
    from propagate.features.diffusion.extractor import DiffusionExtractor
    from propagate.features.hub import ResolvedModel

_ENDINGS = (".pt", ".pth", ".safetensors")
_STEM = "256x256_diffusion_uncond"


def _candidates(present: Collection[str]) -> list[str]:
    """The published checkpoint wherever it lies, or else the only checkpoint."""
    found = sorted(path for path in present if path.endswith(_ENDINGS))
    return [path for path in found if path.rsplit("/", 1)[-1].startswith(f"{_STEM}.")] or found


def _matches(present: Collection[str]) -> bool:
    found = _candidates(present)
    return len(found) == 1 and (len(present) == 1 or _STEM in found[0])


def _select(present: Collection[str], name: str) -> Layout:
    found = _candidates(present)
    if len(found) != 1:
        raise ModelError(
            f"{name} holds {len(found)} checkpoints; give the path of the one to load, such as "
            f"{_STEM}.pt."
        )
    return Layout((found[0],))


def _load(card: ModelCard, files: ResolvedModel, options: ModelOptions) -> DiffusionExtractor:
    del card
    from propagate.features.diffusion.adm import load_adm
    from propagate.features.diffusion.create import create, network_dtype

    return create(load_adm(files, dtype=network_dtype(options)), options)


def _layers(files: ResolvedModel) -> list[LayerInfo]:
    from propagate.features.diffusion.adm import adm_layers

    return adm_layers(files)


_KNOBS: Mapping[Task, ModelOptions] = {
    "propagation": ModelOptions(t=51, up_ft_index=7, ensemble_size=4, short_side=480),
    "semantic": ModelOptions(
        t=101, up_ft_index=4, ensemble_size=8, input_size=(512, 512), resizing="bicubic"
    ),
    "geometric": ModelOptions(
        t=41, up_ft_index=11, ensemble_size=4, input_size=(768, 768), resizing="bicubic"
    ),
}

FAMILY = Family(
    name="adm",
    cards=(
        ModelCard(
            name="dift-adm",
            aliases=("adm",),
            summary="DIFT_adm: OpenAI's ADM UNet, ImageNet 256x256, unconditional",
            licence="MIT",
            download=Download(
                f"https://openaipublic.blob.core.windows.net/diffusion/jul-2021/{_STEM}.pt",
                "a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1",
            ),
            size_mb=2211,
            stride=8,
            knobs=_KNOBS,
        ),
    ),
    options=frozenset({"t", "up_ft_index", "layer", "ensemble_size"}),
    matches=_matches,
    select=_select,
    load=_load,
    layers=_layers,
    knobs=_KNOBS,
)
