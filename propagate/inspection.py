"""Looks at a clip and a mask before a run: whether they fit, and what a run would take."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from propagate.config import VideoSettings
from propagate.features.device import resolve_device, resolve_dtype
from propagate.features.registry import create_extractor
from propagate.labels.mask_checks import ReferenceMask, load_reference_mask
from propagate.labels.masks import decode_masks, encode_masks
from propagate.pipeline import first_frame, first_frames
from propagate.propagation import ContextEntry, Propagator
from propagate.run import RunRequest
from propagate.types import FeatureMap, Frame, LabelField, Masks, Size
from propagate.video import open_clip

if TYPE_CHECKING:
    from collections.abc import Callable

    from propagate.video.base import FrameReader

T = TypeVar("T")

_TIMED_FRAMES = 4
# Gaps between frames that differ by more than this share are no constant rate.
_UNEVEN = 0.1


@dataclass(frozen=True, kw_only=True)
class ClipFacts:
    """What a clip is.

    Args:
        source: identity of the clip.
        frames: how many; None when only a whole pass could tell.
        counted: whether they were counted, or are what the file claims.
        size: of a picture.
        fps: frames per second.
        even: whether frames have a constant rate; None when there was no whole pass.
        losses: what did not decode, in a whole pass.
    """

    source: str
    frames: int | None
    counted: bool
    size: Size
    fps: float
    even: bool | None
    losses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MaskFacts:
    """What a mask is.

    Args:
        objects: pixels of each object, by id.
        void: id of unknown pixels, or None.
        notes: sentences about what was assumed or looks odd.
    """

    objects: dict[int, int]
    void: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take, measured on one frame with a full context.

    Args:
        model: identity of the extractor.
        grid: of a feature map, in cells.
        channels: of a feature map.
        seconds: per frame, by stage.
        memory: peak of the process so far, in bytes; a run stays at it, however long the clip.
        gpu_memory: peak of what was allocated on a GPU, in bytes; 0 without one.
    """

    model: str
    grid: Size
    channels: int
    seconds: dict[str, float]
    memory: int
    gpu_memory: int

    @property
    def seconds_per_frame(self) -> float:
        """Of all stages."""
        return sum(self.seconds.values())


def inspect_clip(reader: FrameReader, *, whole: bool = False) -> ClipFacts:
    """Look at a clip.

    Args:
        reader: the clip.
        whole: decode all of it, which counts its frames and finds what is broken.

    Raises:
        ClipError: nothing decodes.
    """
    first = first_frame(reader)
    frames, even = reader.estimated_length, None
    if whole:
        times = [frame.pts for frame in reader]
        frames, even = len(times), _is_even(times)
    return ClipFacts(
        source=reader.source,
        frames=frames,
        counted=whole,
        size=first.size,
        fps=reader.fps,
        even=even,
        losses=reader.losses.messages if whole else (),
    )


def inspect_mask(request: RunRequest, frame: Frame) -> tuple[MaskFacts, ReferenceMask]:
    """Look at a run's mask, as the run itself would.

    Raises:
        LabelError: it does not fit the frame, or holds no object.
    """
    reference = load_reference_mask(
        request.mask,
        frame_size=frame.size,
        void=request.void,
        binarize=request.binarize,
        trust_ids=request.trust_ids,
    )
    ids, counts = np.unique(reference.masks.ids, return_counts=True)
    pixels = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    objects = {i: pixels[i] for i in reference.masks.object_ids}
    return MaskFacts(objects=objects, void=reference.masks.void, notes=reference.notes), reference


def estimate_run(request: RunRequest, reference: Masks) -> Estimate:
    """Measure what a frame of a run takes, with as much context as it will ever have.

    Nothing is written.

    Raises:
        PropagateError: the model can't be loaded or used.
    """
    reader = open_clip(request.clip, reader=request.reader, frames=request.frames)
    extractor = create_extractor(request.model, request.options)
    frames, decode = _timed(lambda: first_frames(reader, _TIMED_FRAMES))
    settings = request.video
    dtype = resolve_dtype(settings.precision, resolve_device(request.options.device))
    kept = extractor.extract(frames[:1])[0].normalised(dtype)
    propagator = _with_full_context(request, kept, reference, dtype)
    extracts, votes = [], []
    for frame in frames:
        maps, seconds = _timed(partial(extractor.extract, [frame]))
        extracts.append(seconds)
        votes.append(_timed(partial(_label, propagator, maps[0], settings, dtype))[1])
    on_gpu = kept.data.is_cuda
    return Estimate(
        model=extractor.identity,
        grid=kept.grid,
        channels=kept.data.shape[0],
        seconds={
            "decode": decode / len(frames),
            "extract": median(extracts),
            "propagate": median(votes),
        },
        memory=_peak_memory(),
        gpu_memory=torch.cuda.max_memory_allocated(kept.data.device) if on_gpu else 0,
    )


def _with_full_context(
    request: RunRequest, kept: FeatureMap, reference: Masks, dtype: torch.dtype
) -> Propagator:
    """A propagator whose window is full, each frame with a map of its own as in a run."""
    settings = request.video
    field = encode_masks(reference, kept.grid, method=settings.mask_encoding)
    field = LabelField(field.scores.to(kept.data.device), field.ids)
    propagator = Propagator(settings.propagation, dtype=dtype)
    propagator.step(kept, field, index=0)
    for index in range(1, settings.propagation.n_last_frames + 1):
        copy = FeatureMap(kept.data.clone(), kept.image_size, kept.input_size, unit=True)
        propagator.restore(ContextEntry(index, copy, field, pinned=False))
    return propagator


def _label(
    propagator: Propagator, features: FeatureMap, settings: VideoSettings, dtype: torch.dtype
) -> Masks:
    field = propagator.step(features.normalised(dtype))
    method = settings.mask_decoding
    return decode_masks(field, features.image_size, input_size=features.input_size, method=method)


def _timed(run: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def _is_even(times: list[float]) -> bool:
    gaps = [later - earlier for earlier, later in pairwise(times)]
    middle = float(np.median(gaps)) if gaps else 0.0
    return all(abs(gap - middle) <= _UNEVEN * middle for gap in gaps)


def _peak_memory() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
