"""The folder of one training: what a resumed run needs, and weights that load as a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from propagate.errors import OutputError
from propagate.features.hyper.recipe import RECIPE, WEIGHTS, Recipe
from propagate.output.atomic import atomic_path, make_folder
from propagate.output.record_folder import RecordFolder

if TYPE_CHECKING:
    from torch import Tensor, nn

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class Progress:
    """What came of a training so far.

    Args:
        losses: of each step.
        validations: (step, PCK at each threshold), where there are pairs to validate with.
    """

    losses: list[float]
    validations: list[tuple[float, ...]]

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self.losses)

    @property
    def latest_loss(self) -> float:
        """The mean over the last hundred steps."""
        latest = self.losses[-100:]
        return sum(latest) / len(latest)


@dataclass(frozen=True)
class TrainReport:
    """What came of a training.

    Args:
        record: what was written as training.json.
        progress: losses and validations.
        folder: with the weights, which is a model.
        first: whether this is the first of several processes, or the only one.
    """

    record: dict[str, Any]
    progress: Progress
    folder: Path
    first: bool = True


class CheckpointFolder(RecordFolder):
    """See `RecordFolder`; what every training writes: a checkpoint, the losses and their curve."""

    job = "training"

    @property
    def record_path(self) -> Path:
        """Configuration, versions, model and scores."""
        return self.path / "training.json"

    @property
    def checkpoint(self) -> Path:
        """Weights, the optimiser's moments, losses and validations of the latest checkpoint."""
        return self.path / "checkpoint.safetensors"

    @property
    def losses(self) -> Path:
        """A line per step."""
        return self.path / "losses.csv"

    @property
    def curve(self) -> Path:
        """Loss and validation over the steps."""
        return self.path / "loss.png"

    @property
    def results(self) -> tuple[Path, ...]:
        """What a training of this kind writes beside that."""
        return ()

    def prepare(self) -> None:
        """Make the folder, without what is to be replaced."""
        make_folder(self.path)
        if self._replaces:
            for item in (*self.results, self.checkpoint, self.losses, self.curve, self.record_path):
                item.unlink(missing_ok=True)

    def save_checkpoint(
        self,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        progress: Progress,
    ) -> None:
        """Write what a resumed training needs, and the losses.

        Args:
            modules: by name; the first is the one that the optimiser trains.
            optimizer: AdamW over all parameters of the first module.
            progress: losses and validations so far.
        """
        trained = next(iter(modules.values()))
        moments = {
            f"{moment}.{name}": optimizer.state[value][moment].cpu().contiguous()
            for name, value in trained.named_parameters()
            for moment in _MOMENTS
        }
        numbers = {
            "losses": torch.tensor(progress.losses, dtype=torch.float64),
            "validations": torch.tensor(progress.validations, dtype=torch.float64),
        }
        weights = {
            f"{name}.{key}": value
            for name, module in modules.items()
            for key, value in weights_of(module).items()
        }
        with atomic_path(self.checkpoint) as path:
            save_file({**weights, **moments, **numbers}, path)
        with atomic_path(self.losses) as path:
            lines = [f"{step},{loss!r}" for step, loss in enumerate(progress.losses, 1)]
            path.write_text("\n".join(["step,loss", *lines]) + "\n", encoding="utf-8")

    def load(self, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> Progress:
        """Put the latest checkpoint into modules and optimiser; nothing where there is none.

        Args:
            modules: as for `save_checkpoint`.
            optimizer: likewise.

        Raises:
            OutputError: it is damaged.
        """
        if not self.started or not self.checkpoint.is_file():
            return Progress([], [])
        try:
            with safe_open(self.checkpoint, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            names = [name for name, _ in next(iter(modules.values())).named_parameters()]
            for prefix, module in modules.items():
                module.load_state_dict({name: state[f"{prefix}.{name}"] for name in names})
            losses = state["losses"].tolist()
            optimizer.load_state_dict(_optimizer_state(optimizer, names, state, len(losses)))
        except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
            raise OutputError(
                f"{self.checkpoint} can't be read ({error}); start over with --overwrite."
            ) from error
        validations = [tuple(row) for row in np.atleast_2d(state["validations"].numpy()).tolist()]
        return Progress(losses, [row for row in validations if row])


class TrainFolder(CheckpointFolder):
    """Of an aggregation; the folder is a model for `--model` from the first checkpoint on."""

    @property
    def weights(self) -> Path:
        """The weights alone."""
        return self.path / WEIGHTS

    @property
    def recipe(self) -> Path:
        """What they were made for."""
        return self.path / RECIPE

    @property
    def mixing(self) -> Path:
        """Learned mixing weights."""
        return self.path / "mixing.png"

    @property
    def results(self) -> tuple[Path, ...]:
        """The model, and the picture of its mixture."""
        return (self.weights, self.recipe, self.mixing)

    def save(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        recipe: Recipe,
        facts: dict[str, Any],
    ) -> None:
        """Write a checkpoint, and the model as it is."""
        self.save_checkpoint({"network": network}, optimizer, progress)
        with atomic_path(self.weights) as path:
            save_file(weights_of(network), path)
        with atomic_path(self.recipe) as path:
            recipe.write(path, **facts)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of a module by name, as safetensors takes them."""
    return {name: value.detach().cpu().contiguous() for name, value in module.named_parameters()}


def _optimizer_state(
    optimizer: torch.optim.Optimizer, names: list[str], state: dict[str, Tensor], step: int
) -> dict[str, Any]:
    moments = {
        position: {
            "step": torch.tensor(float(step)),
            **{moment: state[f"{moment}.{name}"] for moment in _MOMENTS},
        }
        for position, name in enumerate(names)
    }
    return {"state": moments, "param_groups": optimizer.state_dict()["param_groups"]}
