"""The second job, whole: clips in, a folder of feature maps out, to be named as a model later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from propagate.clip_features import batched, frames_to_fit
from propagate.config import EMBEDDED_MODEL, ModelOptions, Task
from propagate.errors import InputError, OutputError
from propagate.features.base import FeatureExtractor, FittedExtractor
from propagate.features.device import resolve_dtype
from propagate.features.expression import parse
from propagate.features.registry import create_extractor, find_card
from propagate.features.stored import (
    MapName,
    StoredClip,
    StoreDtype,
    compact,
    list_maps,
)
from propagate.output.feature_folder import FeatureFolder, write_map
from propagate.output.record_folder import Mode
from propagate.progress import Progress, no_progress
from propagate.stages import ahead
from propagate.stopwatch import Stopwatch
from propagate.types import FeatureMap, Frame
from propagate.video import ReaderName, open_clip
from propagate.video.base import FrameReader


@dataclass(frozen=True, kw_only=True)
class ExtractRequest:
    """Everything a user says about one extraction.

    Args:
        clips: video files, image folders, globs or images; each is a clip.
        output: folder to write.
        frames: range of every clip as "start:stop:step", or None for all of it.
        reader: which reader opens the clips.
        model: name, path or expression for the registry.
        options: model options.
        task: whose default options are taken.
        store_dtype: floating-point type of the files.
        raw: store maps as they come, instead of with L2 norm 1 in every cell.
        mode: what to do when `output` exists. "resume" keeps the maps that are there, also when it
            is given other clips or frames than before.
    """

    clips: tuple[str, ...]
    output: Path
    frames: str | None = None
    reader: ReaderName = "auto"
    model: str = EMBEDDED_MODEL
    options: ModelOptions = field(default_factory=ModelOptions)
    task: Task = "propagation"
    store_dtype: StoreDtype = "fp16"
    raw: bool = False
    mode: Mode = "new"

    def __post_init__(self) -> None:
        for name, kind in (("store_dtype", StoreDtype), ("task", Task)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; it must be one of "
                    f"{', '.join(get_args(kind))}."
                )

    def config(self) -> dict[str, Any]:
        """What decides the map of a frame; a resumed extraction must agree in all of it."""
        options = asdict(self.options)
        # They say where weights come from, and how much is computed at once.
        for name in ("offline", "batch_size", "memory"):
            del options[name]
        # Principal components follow from the first frames of the range.
        frames = {} if self.options.pca is None else {"frames": self.frames}
        return {
            "model": self.model,
            **options,
            "task": self.task,
            "store_dtype": self.store_dtype,
            "raw": self.raw,
            **frames,
        }


@dataclass(frozen=True)
class ExtractReport:
    """What came of an extraction.

    Args:
        path: the folder.
        clips: its clips, those of earlier calls among them.
        computed: maps that this call wrote.
        nbytes: size of the files of those maps.
        notes: what could not be decoded in the clips of this call.
        seconds: wall-clock seconds by stage; stages go on side by side.
        elapsed: seconds in all.
    """

    path: Path
    clips: tuple[StoredClip, ...]
    computed: int
    nbytes: int
    notes: tuple[str, ...]
    seconds: dict[str, float]
    elapsed: float


def extract_features(
    request: ExtractRequest,
    *,
    progress: Progress[Frame] = no_progress,
    say: Callable[[str], None] = lambda _: None,
) -> ExtractReport:
    """Compute and store the feature maps of some clips.

    Holds one batch of frames and maps, however long the clips are.

    Args:
        request: what to do.
        progress: wraps the frames of each clip: (title, expected number, frames) -> frames.
        say: receives each note as soon as it is known.

    Raises:
        PropagateError: before any long work, whenever the inputs don't fit; in the midst of it
            when a picture has changed since its map was stored, or the disk is full.
    """
    clock = Stopwatch()
    _check_output(request)
    readers = {str(Path(clip).absolute()): _open(request, clip) for clip in request.clips}
    folder = FeatureFolder(request.output, request.config(), mode=request.mode)
    for path, reader in readers.items():
        folder.claim(path, reader.source)
    with clock.measure("load model"):
        extractor = create_extractor(request.model, request.options, task=request.task)
    folder.check_same("extractor", extractor.identity)
    folder.prepare()
    folder.save(extractor.identity)
    dtype = resolve_dtype(request.store_dtype, torch.device("cpu"))
    writer = _Writer(extractor, clock, dtype, request.raw)
    for path, reader in readers.items():
        writer.store(folder.maps_of(path), reader, progress)
        folder.finish(path, reader.losses.messages)
        for loss in reader.losses.messages:
            say(loss)
    folder.save(extractor.identity)
    notes = tuple(note for reader in readers.values() for note in reader.losses.messages)
    return ExtractReport(
        folder.path,
        folder.clips,
        writer.maps,
        writer.nbytes,
        notes,
        clock.seconds,
        clock.elapsed,
    )


class _Writer:
    """Stores the maps of one clip after the other, and counts them.

    Args:
        extractor: what computes them.
        clock: collects the seconds spent in "decode", "extract" and "write".
        dtype: of the files.
        raw: store maps as they come.
    """

    def __init__(
        self, extractor: FeatureExtractor, clock: Stopwatch, dtype: torch.dtype, raw: bool
    ) -> None:
        self._extractor = extractor
        self._clock = clock
        self._dtype = dtype
        self._raw = raw
        self.maps = 0
        self.nbytes = 0

    def store(self, folder: Path, reader: FrameReader, progress: Progress[Frame]) -> None:
        """Store the maps of a clip that are not in `folder` yet."""
        present = {name.frame: name for name in list_maps(folder)}
        if isinstance(self._extractor, FittedExtractor):
            self._extractor.fit(frames_to_fit(reader, self._extractor.fit_frames))
        size = self._extractor.batch_size
        decoded = ahead(self._clock.iterate("decode", reader), size, "decode")
        frames = progress(folder.name, reader.estimated_length, decoded)
        # The batches of a resumed clip are those of an uninterrupted one, as rounding may follow
        # from who shares a batch.
        for batch in batched(frames, size):
            names = [MapName.of(frame) for frame in batch]
            _check_unchanged(names, present, batch[0].source)
            if all(name.frame in present for name in names):
                continue
            with self._clock.measure("extract"):
                maps = self._extractor.extract(batch)
            for frame, name, features in zip(batch, names, maps, strict=True):
                if name.frame not in present:
                    self._write(folder, features, frame, name)

    def _write(self, folder: Path, features: FeatureMap, frame: Frame, name: MapName) -> None:
        with self._clock.measure("write"):
            item = compact(features, frame, dtype=self._dtype, raw=self._raw)
            self.nbytes += write_map(folder, frame, item, name, advice="continue with --resume")
        self.maps += 1


def _open(request: ExtractRequest, clip: str) -> FrameReader:
    return open_clip(clip, reader=request.reader, frames=request.frames)


def _check_output(request: ExtractRequest) -> None:
    folders = (find_card(part.model).folder for part in parse(request.model))
    if any(folder and folder.resolve() == request.output.resolve() for folder in folders):
        raise InputError(
            f"{request.output} holds the features that are to be read as a model; choose another "
            "output folder."
        )


def _check_unchanged(names: Sequence[MapName], present: Mapping[int, MapName], source: str) -> None:
    for name in names:
        if present.get(name.frame, name) != name:
            raise OutputError(
                f"The extraction can't be resumed: frame {name.frame} of {source} is another "
                "picture than the one whose features are stored; start over with --overwrite."
            )
