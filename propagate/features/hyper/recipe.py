"""What an aggregation was made for: its maps, and its weights, as a folder holds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from propagate.config import ModelOptions
from propagate.errors import InputError, ModelError
from propagate.features.hyper.network import AggregationNetwork

if TYPE_CHECKING:
    from torch import Tensor

RECIPE = "aggregation.json"
WEIGHTS = "aggregation.safetensors"

# A published checkpoint has the weights beside its optimiser's.
_WRAPPER = "aggregation_network"


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """Which steps of an inversion maps are taken at.

    Args:
        steps: of the whole inversion, from the clean image to noise.
        saves: those whose maps are taken, as published: counted from the noisy end, the last one
            (`steps` - 1) is the clean image; in the order of the mixing weights.

    Raises:
        InputError: a step that there is not, or one twice.
    """

    steps: int = 50
    saves: tuple[int, ...] = (49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0)

    def __post_init__(self) -> None:
        if not self.saves or len(set(self.saves)) < len(self.saves):
            raise InputError(f"The steps {list(self.saves)} must be one or more, none twice.")
        wrong = [save for save in self.saves if not 0 <= save < self.steps]
        if wrong:
            raise InputError(f"Step {wrong[0]} is none of an inversion of {self.steps} steps.")

    def over(self, steps: int) -> Inversion:
        """The same saves along another number of steps, each as far along the way as it was.

        Raises:
            InputError: they are too few to take the maps at.
        """
        if steps == self.steps:
            return self
        last = max(self.steps - 1, 1)
        saves = tuple(round(save * (steps - 1) / last) for save in self.saves)
        if steps < 1 or len(set(saves)) < len(saves):
            raise InputError(
                f"With {steps} steps the aggregation's {len(saves)} maps of a layer would not all "
                f"be of different steps; take more, at best the {self.steps} it was made for."
            )
        return Inversion(steps=steps, saves=saves)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Where an aggregation's maps come from, and the shape of its network.

    Args:
        model: the frozen model, for the registry.
        options: its `ModelOptions` by name, where they are not its own defaults.
        inversion: the steps, for maps of a diffusion model's inversion, of all blocks of the
            decoder unless `options` name layers; None for the layers of any model at once.
        groups: of the network's norms.
        weights: the file with the weights, beside the recipe.

    Raises:
        InputError: there is no such option, or the file is not a plain name.
    """

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    inversion: Inversion | None = None
    groups: int = 32
    weights: str = WEIGHTS

    def __post_init__(self) -> None:
        known = [name for name in ModelOptions.__dataclass_fields__ if name != "prune"]
        wrong = [name for name in self.options if name not in known]
        if wrong:
            raise InputError(f"{wrong[0]!r} is no option of a model; there are {', '.join(known)}.")
        if Path(self.weights).name != self.weights:
            raise InputError(f"The weights {self.weights!r} must lie beside the recipe.")

    def model_options(self) -> ModelOptions:
        """The options as they are checked everywhere."""
        values = dict(self.options)
        if values.get("input_size") is not None:
            height, width = values["input_size"]
            values["input_size"] = (height, width)
        return ModelOptions(**values)

    def write(self, path: Path, **facts: Any) -> None:
        """Write it as JSON, with more facts for whoever reads it."""
        text = json.dumps(asdict(self) | facts, indent=2)
        path.write_text(text + "\n", encoding="utf-8")


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file; facts that are not known are passed over.

    Raises:
        ModelError: it is damaged, or says something that can't be.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {"model": _member(content, "model", str)}
        for name, kind in (("options", dict), ("groups", int), ("weights", str)):
            if content.get(name) is not None:
                found[name] = _member(content, name, kind)
        if content.get("inversion") is not None:
            inversion = _member(content, "inversion", dict)
            saves = tuple(int(save) for save in _member(inversion, "saves", list))
            found["inversion"] = Inversion(steps=_member(inversion, "steps", int), saves=saves)
        recipe = Recipe(**found)
        recipe.model_options()
    except (InputError, OSError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is no recipe of an aggregation: {error}") from error
    return recipe


def _member(content: Any, name: str, kind: type) -> Any:
    value = content.get(name) if isinstance(content, dict) else None
    if type(value) is not kind:
        raise InputError(f"{name} is {value!r}, and must be of type {kind.__name__}.")
    return value


def checksum(path: Path) -> str:
    """Twelve digits that tell a file's content from any other's."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def load_network(path: Path, *, groups: int) -> AggregationNetwork:
    """An aggregation by its weights alone; frozen, in eval mode.

    Args:
        path: safetensors, or a published checkpoint of PyTorch, of which tensors only are read.
        groups: of the norms, which the weights don't tell.

    Raises:
        ModelError: the file is damaged, or something else.
    """
    state = _read_state(path)
    channels = _channels(state)
    mixing = state.get("mixing_weights")
    if not channels or mixing is None or mixing.ndim != 1 or len(mixing) % len(channels):
        raise ModelError(
            f"{path} holds no weights of an aggregation; expected are mixing_weights and "
            "bottleneck_layers.0.0.conv1.weight and so on."
        )
    try:
        network = AggregationNetwork(
            channels,
            steps=len(mixing) // len(channels),
            width=len(state["bottleneck_layers.0.0.conv3.weight"]),
            groups=groups,
        )
        network.load_state_dict(state)
    except (InputError, KeyError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(
            f"{path} does not fit an aggregation with {groups} groups ({first})."
        ) from error
    return network.requires_grad_(False).eval()


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            state: dict[str, Tensor] = load_file(path)
            return state
        content = torch.load(path, map_location="cpu", weights_only=True)
    # What `torch.load` raises for a file that is none depends on where it breaks.
    except (
        SafetensorError,
        UnpicklingError,
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
    ) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} can't be read as weights of an aggregation ({first}).") from error
    if isinstance(content, dict) and isinstance(content.get(_WRAPPER), dict):
        content = content[_WRAPPER]
    if not isinstance(content, dict):
        return {}
    return {
        str(name): part.float() for name, part in content.items() if isinstance(part, torch.Tensor)
    }


def _channels(state: Mapping[str, Tensor]) -> Sequence[int]:
    found: list[int] = []
    while (weight := state.get(f"bottleneck_layers.{len(found)}.0.conv1.weight")) is not None:
        found.append(int(weight.shape[1]))
    return found
