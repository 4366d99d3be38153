"""The folder of a denoiser's training, which is a pipeline of diffusers at every checkpoint."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusers import DDIMScheduler
from safetensors.torch import save_file

from propagate.output.atomic import atomic_path, make_folder
from propagate.training.folder import CheckpointFolder, weights_of
from propagate.training.pocket_settings import STEPS

if TYPE_CHECKING:
    from diffusers import UNet2DModel


class PocketFolder(CheckpointFolder):
    """See `CheckpointFolder`; sub-folders `unet` and `scheduler` as diffusers saves them."""

    @property
    def weights(self) -> Path:
        """The averaged weights, in half precision: features don't change by more than rounding."""
        return self.path / "unet" / "diffusion_pytorch_model.fp16.safetensors"

    @property
    def network_config(self) -> Path:
        """What the network is built like."""
        return self.path / "unet" / "config.json"

    @property
    def scheduler_config(self) -> Path:
        """Noise levels, and what the network predicts."""
        return self.path / "scheduler" / "scheduler_config.json"

    @property
    def denoised(self) -> Path:
        """Crops with noise and without."""
        return self.path / "denoised.png"

    @property
    def results(self) -> tuple[Path, ...]:
        """The model, and the picture of what it does."""
        return (self.weights, self.network_config, self.scheduler_config, self.denoised)

    def save_model(self, average: UNet2DModel) -> None:
        """Write the pipeline."""
        scheduler = DDIMScheduler(num_train_timesteps=STEPS, prediction_type="v_prediction")
        for path, config in (
            (self.network_config, average.config),
            (self.scheduler_config, scheduler.config),
        ):
            make_folder(path.parent)
            named = {key: value for key, value in dict(config).items() if key[0] != "_"}
            owner = type(average if path == self.network_config else scheduler).__name__
            _write_json(path, {"_class_name": owner, **named})
        with atomic_path(self.weights) as path:
            save_file(weights_of(deepcopy(average).half()), path, metadata={"format": "pt"})


def _write_json(target: Path, values: dict[str, Any]) -> None:
    with atomic_path(target) as path:
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
