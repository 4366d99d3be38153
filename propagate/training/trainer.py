"""The loop: a pair a step, checkpoints that a later run goes on from bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from propagate.errors import ModelError
from propagate.features.hyper.loss import PairLoss, cells_of
from propagate.features.hyper.network import Accumulator, AggregationNetwork, Recorder
from propagate.features.hyper.sources import MapSource
from propagate.matching.semantic import PUBLISHED, match_points
from propagate.metrics.pck import correct_points, image_side
from propagate.progress import Progress as ShownProgress
from propagate.training.pairs import PairSource, TrainingPair
from propagate.training.settings import TrainSettings
from propagate.types import FeatureMap, Frame, Size

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from propagate.training.folder import Progress

    Maps = list[tuple[int, int, Tensor]]

ALPHAS = (0.02, 0.05, 0.1)
"""Thresholds of the validation, as shares of the target image's longer side."""


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """One training of a network on the maps of a frozen model.

    Args:
        source: of the maps.
        pairs: to train on.
        validation: to validate with; may be empty.
        settings: of the training.
        device: where the network is.
        accelerator: knows how many processes share a step; each takes a pair of its own.
    """

    source: MapSource
    pairs: PairSource
    validation: Sequence[TrainingPair]
    settings: TrainSettings
    device: torch.device
    accelerator: Accelerator

    def maps(self, frame: Frame) -> tuple[Maps, Size]:
        """The frozen model's maps of an image."""
        ((maps, size),) = self.source.run([frame], Recorder)
        return maps, size

    def channels(self) -> list[int]:
        """Of each layer, found on the first pair."""
        maps, _ = self.maps(self.pairs.pair(0).source)
        found = {layer: data.shape[1] for layer, _, data in maps}
        return [found[layer] for layer in sorted(found)]

    def run(
        self,
        network: AggregationNetwork,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        save: Callable[[], None],
        bar: ShownProgress[int],
    ) -> None:
        """Train from where `progress` is to the last step.

        Args:
            network: is trained in place.
            optimizer: of its parameters.
            progress: is added to.
            save: writes a checkpoint; called in the first process only.
            bar: wraps the steps.

        Raises:
            ModelError: the loss is not finite any more.
        """
        loss_of, stepper = self.accelerator.prepare(PairLoss(network), optimizer)
        left = range(progress.step, self.settings.steps)
        for step in bar("training", len(left), left):
            progress.losses.append(self._step(loss_of, stepper, step))
            done = step + 1
            due = done % self.settings.save_every == 0 or done == self.settings.steps
            if due and self.accelerator.is_main_process:
                if self.validation:
                    progress.validations.append((float(done), *self.validate(network)))
                save()

    def _step(self, loss_of: torch.nn.Module, optimizer: Any, step: int) -> float:
        accelerator = self.accelerator
        number = step * accelerator.num_processes + accelerator.process_index
        pair = self.pairs.pair(number)
        with torch.enable_grad():
            loss = loss_of(*self._inputs(pair))
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        value = float(accelerator.reduce(loss.detach(), reduction="mean"))
        if not np.isfinite(value):
            raise ModelError(
                f"The loss of step {step + 1} is {value}; choose a lower --lr, or --dtype fp32."
            )
        return value

    def _inputs(self, pair: TrainingPair) -> tuple[Maps, Maps, Tensor, Tensor]:
        sides = ((pair.source, pair.source_xy), (pair.target, pair.target_xy))
        maps = [self.maps(frame)[0] for frame, _ in sides]
        cells = [
            torch.from_numpy(
                cells_of(xy, frame.size, Size(*of_frame[0][2].shape[2:]), self.settings.cells)
            ).to(self.device)
            for of_frame, (frame, xy) in zip(maps, sides, strict=True)
        ]
        return maps[0], maps[1], cells[0], cells[1]

    @torch.no_grad()
    def validate(self, network: AggregationNetwork) -> tuple[float, ...]:
        """Share of correct points at each of `ALPHAS`, over all validation pairs."""

        def aggregated(frame: Frame) -> FeatureMap:
            count = network.steps * len(network.channels)
            ((maps, size),) = self.source.run([frame], lambda: Accumulator(network, count))
            return FeatureMap(maps[0], frame.size, size)

        return pck(self.validation, aggregated)


def pck(
    pairs: Sequence[TrainingPair], features: Callable[[Frame], FeatureMap]
) -> tuple[float, ...]:
    """Share of points that are found by the best pixel of the upsampled map, at each of `ALPHAS`.

    Args:
        pairs: one or more.
        features: of an image.
    """
    correct: list[list[np.ndarray]] = [[] for _ in ALPHAS]
    for pair in pairs:
        source, target = features(pair.source), features(pair.target)
        size = source.image_size
        inside = np.clip(pair.source_xy, 0, (size.width, size.height))
        found = match_points(source, target, inside, PUBLISHED).target_xy
        side = image_side(target.image_size)
        for alpha, parts in zip(ALPHAS, correct, strict=True):
            parts.append(correct_points(found, pair.target_xy, side=side, alpha=alpha))
    return tuple(float(np.concatenate(parts).mean()) for parts in correct)
