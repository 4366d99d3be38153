"""`PromptMatcher`: a pair matcher by prompts that are optimised in one image, read in the other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from propagate.features.batching import Batches, Notify, notify_by_log
from propagate.geometry import map_points
from propagate.matching.base import checked_points
from propagate.matching.prompt.crops import SeededDraws, shared_windows
from propagate.matching.prompt.encoded import EncodedImage, image_key
from propagate.matching.prompt.infer import attention_in
from propagate.matching.prompt.look import Look, as_matches, look_of
from propagate.matching.prompt.network import TOKENS
from propagate.matching.prompt.optimise import Course, Optimised, optimise_prompts
from propagate.progress import Progress, no_progress
from propagate.recent import Recent
from propagate.types import Frame, Matches, Size

if TYPE_CHECKING:
    from jaxtyping import Float, Float64
    from torch import Tensor

    from propagate.matching.prompt.network import PromptNetwork
    from propagate.matching.prompt.settings import PromptSettings

_IMAGES = 4  # whose latents are kept
_POINTS = 128  # whose prompts are kept, 1.2 MB each
_GROUP = 64  # points that are optimised, and then looked up, at a time
_TRANSIENT = 1.3  # of what a pass keeps: what comes and goes beside it
# Random numbers of one kind never depend on how many of another were drawn.
_START, _OPTIMISE, _LOOK, _WINDOWS = range(4)


class PromptMatcher:
    """Finds points by prompts whose attention is optimised to peak at them (a `PairMatcher`).

    Source: Hedlin et al., "Unsupervised Semantic Correspondence Using Stable Diffusion", NeurIPS
    2023. Prompts of a point and latents of an image are kept for the next pair, so a target is
    encoded once for all points. What is found for a point depends on both images, the point and
    the seed alone: not on the other points, the batch or the order.

    Args:
        network: the model.
        settings: how; the network has the same.
        seed: of all random numbers, 0 or more.
        batch_size: the most prompts at once; None follows from `memory`.
        memory: gigabytes that activations may take; None is a share of a GPU's, and one prompt at
            a time on a CPU.
        progress: told of each step.
        notify: receives a note when memory runs out.
    """

    def __init__(
        self,
        network: PromptNetwork,
        settings: PromptSettings,
        *,
        seed: int = 0,
        batch_size: int | None = None,
        memory: float | None = None,
        progress: Progress[int] = no_progress,
        notify: Notify = notify_by_log,
    ) -> None:
        self.settings = settings
        self._network = network
        self._seed = seed
        self._batch_size = batch_size
        self._memory = memory
        self._progress = progress
        self._notify = notify
        self._images: Recent[tuple[int, ...], EncodedImage] = Recent(_IMAGES)
        self._prompts: OrderedDict[tuple[int, ...], tuple[Tensor, Course]] = OrderedDict()

    @property
    def identity(self) -> str:
        """Weights, settings and seed."""
        return f"prompt {self._network.identity} seed={self._seed} {self.settings}"

    def match(
        self,
        source: Frame,
        target: Frame,
        xy: Float[np.ndarray, "n 2"],
        *,
        subject: str | None = None,
    ) -> Matches:
        """See `PairMatcher`; `subject` is not read. Scores are attention, 0 to 1.

        Raises:
            InputError: a point lies outside of the source, or the network lacks a layer.
            ModelError: not even one prompt fits into memory.
        """
        del subject
        points = checked_points(xy, source.size)
        return as_matches(points, self.looks(source, target, points))

    def looks(self, source: Frame, target: Frame, xy: Float[np.ndarray, "n 2"]) -> Iterator[Look]:
        """What `match` finds, one point after the other, with the maps it comes from.

        Raises:
            InputError, ModelError: as `match`.
        """
        points = checked_points(xy, source.size)
        keys = _point_keys(source, points)
        image = self._encoded(target)
        count = self.settings.embeddings
        for first in range(0, len(keys), _GROUP):
            group = slice(first, first + _GROUP)
            self._optimise(source, points[group], keys[group])
            total: Tensor | None = None
            for index, layers in enumerate(self._attention(image, keys[group])):
                total = layers if total is None else total + layers
                if index % count == count - 1:
                    yield look_of(total / count, image)
                    total = None

    def course(self, source: Frame, xy: Float64[np.ndarray, " 2"]) -> Course:
        """How the first prompt of a point was optimised; the point's latest match has told."""
        points = np.asarray(xy, dtype=np.float64)[None]
        keys = _point_keys(source, points)
        self._optimise(source, points, keys)
        return self._prompts[keys[0]][1]

    def input_of(self, frame: Frame) -> EncodedImage:
        """An image as the network sees it."""
        return self._encoded(frame)

    def layer_names(self, frame: Frame) -> tuple[str, ...]:
        """Names of the layers whose attention is read in an image."""
        return self._network.layer_names(self._latent(self._encoded(frame)))

    def _optimise(
        self,
        source: Frame,
        points: Float64[np.ndarray, "n 2"],
        keys: list[tuple[int, ...]],
    ) -> None:
        missing = {
            key: place for key, place in zip(keys, points, strict=True) if key not in self._prompts
        }
        for key in keys:
            if key in self._prompts:
                self._prompts.move_to_end(key)
        image = self._encoded(source)
        count = self.settings.embeddings
        jobs = [(key, place, e) for key, place in missing.items() for e in range(count)]
        done: list[tuple[Tensor, Course]] = []

        def run(numbers: Tensor) -> Optimised:
            part = [jobs[int(i)] for i in numbers]
            places = map_points(np.stack([place for _, place, _ in part]), image.native, image.size)
            starts = [
                SeededDraws(self._seed, (_START, *key, e)).noise(self._shape, "normal")
                for key, _, e in part
            ]
            return optimise_prompts(
                self._network,
                image,
                [(float(x), float(y)) for x, y in places],
                [SeededDraws(self._seed, (_OPTIMISE, *key, e)) for key, _, e in part],
                torch.stack(starts),
                self.settings,
                tick=tick,
            )

        if jobs:
            batches = self._batches(image, training=True)
            with self._ticks("optimise prompts", len(jobs) * self.settings.steps) as tick:
                for found in batches.run(run, torch.arange(len(jobs))):
                    done += zip(found.contexts, found.courses, strict=True)
        for index, key in enumerate(missing):
            rows = done[index * count : (index + 1) * count]
            self._prompts[key] = torch.stack([context for context, _ in rows]), rows[0][1]
        while len(self._prompts) > _POINTS:
            self._prompts.popitem(last=False)

    def _attention(
        self, image: EncodedImage, keys: list[tuple[int, ...]]
    ) -> Iterator[Float[Tensor, "layers h w"]]:
        """Attention in the target of each prompt of each point, in order."""
        jobs = [(key, e) for key in keys for e in range(self.settings.embeddings)]
        windows = None
        if not self.settings.follow:
            draws = SeededDraws(self._seed, (_WINDOWS, *image.key))
            windows = shared_windows(image.size, draws, self.settings)
        prompts = {key: self._prompts[key][0] for key in keys}

        def run(numbers: Tensor) -> Float[Tensor, "b layers h w"]:
            part = [jobs[int(i)] for i in numbers]
            return attention_in(
                self._network,
                image,
                torch.stack([prompts[key][e] for key, e in part]),
                [SeededDraws(self._seed, (_LOOK, *key, e, *image.key)) for key, e in part],
                self.settings,
                windows=windows,
                tick=tick,
            )

        batches = self._batches(image, training=False)
        with self._ticks("look at crops", len(jobs) * self.settings.crops) as tick:
            for found in batches.run(run, torch.arange(len(jobs))):
                yield from found

    @property
    def _shape(self) -> tuple[int, int]:
        return TOKENS, self._network.width

    def _latent(self, image: EncodedImage) -> Size:
        return Size(*(side // self._network.factor for side in image.size))

    def _encoded(self, frame: Frame) -> EncodedImage:
        size = self.settings.input_size(frame.size)
        return self._images.get(
            image_key(frame), lambda: EncodedImage(frame, size, self._network.encode)
        )

    def _batches(self, image: EncodedImage, *, training: bool) -> Batches:
        """Chunks of prompts; what one takes is measured where a budget is to be kept."""
        growth = 1.0
        if self._batch_size is None and (
            self._memory is not None or self._network.device.type == "cuda"
        ):
            latent = self._latent(image)
            growth = (
                _TRANSIENT * self._network.bytes_kept(latent)
                if training
                else self._network.bytes_of_a_look(latent)
            )
        return Batches(
            self._network.device,
            growth,
            size=self._batch_size,
            budget=self._memory,
            what="prompts",
            shrink="--size",
            notify=self._notify,
        )

    @contextmanager
    def _ticks(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Something to call before each so many of `total` steps, which the user sees."""
        steps = iter(self._progress(title, total, range(total)))

        def tick(count: int) -> None:
            # A chunk that ran out of memory is done again, so there may be more than `total`.
            for _ in range(count):
                next(steps, None)

        yield tick
        for _ in steps:
            pass


def _point_keys(source: Frame, points: Float64[np.ndarray, "n 2"]) -> list[tuple[int, ...]]:
    image = image_key(source)
    return [(*image, round(float(x) * 1000), round(float(y) * 1000)) for x, y in points]
