"""Looks at a clip and its labels before a run: whether they fit, and what a run would take."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from propagate.features.base import FittedExtractor
from propagate.features.device import resolve_device
from propagate.features.registry import create_extractor
from propagate.labels.codec import Codec, codec_for
from propagate.labels.reference_files import LoadedReferences, load_references
from propagate.labels.references import References
from propagate.pipeline import first_frame, first_frames
from propagate.propagation import ContextEntry, Propagator, similarity_dtype
from propagate.run import RunRequest, annotated_frames
from propagate.types import FeatureMap, Keypoints, LabelField, Masks, Size
from propagate.video import open_clip

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import UInt8

    from propagate.video.base import FrameReader

T = TypeVar("T")

_TIMED_FRAMES = 4
# Bytes per pixel of what a run holds beside the work on one frame: pictures that are read ahead and
# written behind, and then what is drawn and the encoder's own. Measured at 480p and 4K.
_READ_AND_WRITTEN, _DRAWN = 24, 56
# Norm of the noise added to a unit vector; with it frames vote as fast as those of real clips.
_UNLIKE = 0.35
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
        frame: that it is for.
        objects: pixels of each object, by id.
        void: id of unknown pixels, or None.
    """

    frame: int
    objects: dict[int, int]
    void: int | None

    @property
    def summary(self) -> str:
        """In a line."""
        objects = ", ".join(f"{i}: {pixels} pixels" for i, pixels in self.objects.items())
        void = "" if self.void is None else f"; {self.void} is unknown"
        return f"{len(self.objects)} objects ({objects}){void}"


@dataclass(frozen=True, kw_only=True)
class KeypointFacts:
    """What the keypoints of a frame are.

    Args:
        frame: that they are for.
        points: how many, of all individuals.
        visible: how many of them are visible.
    """

    frame: int
    points: int
    visible: int

    @property
    def summary(self) -> str:
        """In a line."""
        return f"{self.points} keypoints, of which {self.visible} are visible"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take, measured on one frame with a full context.

    Args:
        model: identity of the extractor.
        grid: of a feature map, in cells.
        channels: of a feature map.
        seconds: per frame, by stage.
        memory: peak of a run, in bytes, however long the clip.
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


def inspect_labels(
    request: RunRequest, reader: FrameReader
) -> tuple[list[MaskFacts | KeypointFacts], LoadedReferences]:
    """Look at a run's masks or keypoints, as the run itself would; in the order of their frames.

    Raises:
        LabelError: they don't fit their frame, or hold nothing.
        InputError: the clip has no such frame.
    """
    files, frames = annotated_frames(reader, request.references)
    loaded = load_references(files, frames, request.reading)
    return [_facts(item.index, item.labels) for item in loaded.references], loaded


def _facts(frame: int, labels: Masks | Keypoints) -> MaskFacts | KeypointFacts:
    if isinstance(labels, Keypoints):
        visible = int(np.count_nonzero(labels.visible))
        return KeypointFacts(frame=frame, points=len(labels.names), visible=visible)
    ids, counts = np.unique(labels.ids, return_counts=True)
    pixels = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    return MaskFacts(
        frame=frame, objects={i: pixels[i] for i in labels.object_ids}, void=labels.void
    )


def estimate_run(request: RunRequest, references: References[Any]) -> Estimate:
    """Measure what a frame of a run takes, with as much context as it will ever have.

    Nothing is written.

    Raises:
        PropagateError: the model can't be loaded or used.
    """
    reader = open_clip(request.clip, reader=request.reader, frames=request.frames)
    extractor = create_extractor(request.model, request.options)
    frames, decode = _timed(lambda: first_frames(reader, _TIMED_FRAMES))
    dtype = similarity_dtype(request.video.precision, resolve_device(request.options.device))
    if isinstance(extractor, FittedExtractor):
        extractor.fit(frames)
        # Their maps are known now, until they are asked for once; a frame is to be timed.
        extractor.extract(frames)
    kept = extractor.extract(frames[:1])[0].normalised(dtype)
    codec: Codec[Any] = codec_for(references, request.video)
    labels = next(iter(references)).labels
    grid = kept.grid.finer(request.video.propagation.patch)
    field = codec.encode(labels, grid, image_size=kept.image_size)
    propagator = _with_full_context(request, kept, field, dtype, references=len(references))
    passes = 1 if references.indices == (frames[0].index,) else 2
    extracts, votes = [], []
    for frame in frames:
        maps, seconds = _timed(partial(extractor.extract, [frame]))
        extracts.append(seconds)
        votes.append(_timed(partial(_label, propagator, maps[0], codec, dtype, frame.rgb))[1])
    on_gpu = kept.data.is_cuda
    return Estimate(
        model=extractor.identity,
        grid=kept.grid,
        channels=kept.data.shape[0],
        seconds={
            "decode": decode / len(frames),
            "extract": median(extracts),
            "propagate": median(votes) * passes,
        },
        memory=_memory(frames[0].size, overlay=request.overlay),
        gpu_memory=torch.cuda.max_memory_allocated(kept.data.device) if on_gpu else 0,
    )


def _with_full_context(
    request: RunRequest, kept: FeatureMap, field: LabelField, dtype: torch.dtype, *, references: int
) -> Propagator:
    """A propagator whose window is full, each frame with a map of its own as in a run.

    Maps that are the same would tie, which takes longer.
    """
    settings = request.video
    field = LabelField(field.scores.to(kept.data.device), field.ids)
    propagator = Propagator(settings.propagation, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    for index in range(references + settings.propagation.n_last_frames):
        noise = torch.randn(kept.data.shape, generator=generator).to(kept.data)
        like = replace(kept, data=kept.data + _UNLIKE * noise / noise.norm(dim=0), unit=False)
        propagator.add(ContextEntry(index, like, field, pinned=index < references))
    return propagator


def _label(
    propagator: Propagator,
    features: FeatureMap,
    codec: Codec[Any],
    dtype: torch.dtype,
    rgb: UInt8[np.ndarray, "h w 3"],
) -> object:
    field = propagator.step(features.normalised(dtype))
    return codec.decode(
        field, image_size=features.image_size, input_size=features.input_size, rgb=rgb
    )


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


def _memory(size: Size, *, overlay: bool) -> int:
    """Of a run, whose work on a frame this process has done; 0 where the system doesn't say."""
    peak = _peak_memory()
    in_flight = size.height * size.width * (_READ_AND_WRITTEN + (_DRAWN if overlay else 0))
    return peak + in_flight if peak else 0


def _peak_memory() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
