"""One clip in a program or a notebook: annotate, look at results, correct, save."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.config import Preset, preset
from propagate.errors import InputError
from propagate.features.base import FeatureExtractor
from propagate.features.registry import create_extractor
from propagate.labels.keypoint_checks import load_reference_keypoints
from propagate.labels.keypoint_files import is_keypoint_file, write_keypoints
from propagate.labels.keypoint_formats.base import AnnotatedFrame, KeypointFile
from propagate.labels.mask_checks import Void, load_reference_mask
from propagate.labels.mask_files import write_mask
from propagate.labels.reference_files import ReferenceFile, ReferenceOptions
from propagate.labels.references import References, keypoint_references, mask_references
from propagate.output.record_folder import Mode
from propagate.output.workspace import Workspace
from propagate.pipeline import VideoPropagator, frame_at
from propagate.progress import Progress, no_progress
from propagate.results import FrameResult
from propagate.run import RunReport, RunRequest, run_clip
from propagate.types import Frame, Keypoints, Masks
from propagate.video import open_clip

if TYPE_CHECKING:
    from jaxtyping import Integer

Labels = Masks | Keypoints


class Session:
    """A clip and its references; iterating labels all frames, as often as one likes.

    Features are kept in a temporary folder until `close`, so that only the first time takes long.

    Args:
        clip: video file, image folder, glob or multi-page image.
        settings: model and propagation; None for the preset "default", or "keypoints".
        frames: range of the clip as "start:stop:step", or None for all of it.
        cache: gigabytes of features that the temporary folder may take.
        progress: wraps the frames of long stages: (title, expected number, frames) -> frames.

    Raises:
        ClipError: the clip can't be read.
    """

    def __init__(
        self,
        clip: str | Path,
        *,
        settings: Preset | None = None,
        frames: str | None = None,
        cache: float = 4.0,
        progress: Progress[Any] = no_progress,
    ) -> None:
        self.clip = open_clip(clip, frames=frames)
        self._path = str(clip)
        self._frames = frames
        self._settings = settings
        self._progress = progress
        self._labels: dict[int, Labels] = {}
        self._stated: dict[int, tuple[int, ...]] = {}
        self._folder = TemporaryDirectory(prefix="propagate-")
        self._workspace = Workspace(folder=Path(self._folder.name), keep=int(cache * 1e9))
        self._extractors: dict[str, FeatureExtractor] = {}

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary folder."""
        self._folder.cleanup()

    @property
    def settings(self) -> Preset:
        """Model and propagation."""
        if self._settings is not None:
            return self._settings
        points = any(isinstance(labels, Keypoints) for labels in self._labels.values())
        return preset("keypoints" if points else "default")

    @property
    def references(self) -> References[Any]:
        """What was annotated so far.

        Raises:
            InputError: nothing was.
        """
        labels: Any = self._labels
        if any(isinstance(item, Keypoints) for item in self._labels.values()):
            return keypoint_references(labels)
        return mask_references(labels, stated=self._stated)

    def add_reference(
        self,
        frame: int,
        labels: Labels | Integer[np.ndarray, "h w"] | str | Path,
        *,
        objects: Iterable[int] | None = None,
    ) -> tuple[str, ...]:
        """Annotate a frame, in place of what was said of it before.

        Args:
            frame: index in the clip.
            labels: masks of the clip's size, ids as an integer array, keypoints, or a file of one
                of these.
            objects: ids that a mask says something about; None for those with pixels in it.

        Returns:
            Sentences about what was assumed of a file or looks odd in it.

        Raises:
            InputError: the clip has no such frame, or the labels are of another kind than others.
            LabelError: a file doesn't fit its frame.
        """
        picture = frame_at(self.clip, frame)
        notes: tuple[str, ...] = ()
        if isinstance(labels, (str, Path)):
            labels, notes = _read(Path(labels), picture)
        elif isinstance(labels, np.ndarray):
            labels = Masks(labels)
        others = {type(item) for number, item in self._labels.items() if number != frame}
        if others - {type(labels)}:
            raise InputError(
                f"Frame {frame} has {type(labels).__name__.lower()} and another frame has "
                f"{others.pop().__name__.lower()}; a clip carries one kind."
            )
        if isinstance(labels, Masks) and labels.size != picture.size:
            raise InputError(
                f"The mask of frame {frame} is {labels.size} and the frame {picture.size}; they "
                "must have the same size."
            )
        self._labels[frame] = labels
        self._stated.pop(frame, None)
        if isinstance(labels, Masks) and objects is not None:
            self._stated[frame] = tuple(objects)
        return notes

    def remove_reference(self, frame: int) -> None:
        """Take back what was said of a frame.

        Raises:
            InputError: nothing was.
        """
        if frame not in self._labels:
            raise InputError(f"Frame {frame} has no reference to remove.")
        del self._labels[frame]
        self._stated.pop(frame, None)

    def __iter__(self) -> Iterator[FrameResult[Any]]:
        """Labels of every frame, in the clip's order."""
        self._workspace.forget_passes()
        settings = self.settings
        references: References[Any] = self.references
        propagator: VideoPropagator[Any] = VideoPropagator(
            self.clip,
            references,
            extractor=self._extractor(),
            settings=settings.video,
            device=settings.options.device,
            workspace=self._workspace,
            progress=self._progress,
        )
        yield from propagator

    def save(
        self, folder: str | Path, *, mode: Mode = "new", overlay: bool = True, cache: float = 1.0
    ) -> RunReport:
        """Write the results as `propagate run` does, with all that `propagate correct` needs.

        Args:
            folder: to write.
            mode: "new", or "overwrite" to replace an earlier run.
            overlay: whether to draw the overlay video and contact sheet.
            cache: gigabytes of features to keep there.
        """
        settings = self.settings
        with TemporaryDirectory(prefix="propagate-") as temporary:
            request = RunRequest(
                clip=self._path,
                references=tuple(self._write_references(Path(temporary))),
                output=Path(folder),
                frames=self._frames,
                reading=ReferenceOptions(void=self._void()),
                model=settings.model,
                options=settings.options,
                video=settings.video,
                mode=mode,
                overlay=overlay,
                cache=cache,
            )
            return run_clip(
                request,
                extractor=self._extractor(),
                features=self._workspace,
                progress=self._progress,
            )

    def _void(self) -> Void:
        """The id of unknown pixels, one for all masks.

        Raises:
            InputError: masks differ in it.
        """
        found = {item.void for item in self._labels.values() if isinstance(item, Masks)}
        if len(found) > 1:
            raise InputError(f"Masks have different ids for unknown pixels: {found}; use one.")
        return next(iter(found), "auto")

    def _write_references(self, folder: Path) -> Iterator[ReferenceFile]:
        for item in self.references:
            if isinstance(item.labels, Masks):
                path = folder / f"{item.index}.png"
                write_mask(path, item.labels.ids)
                yield ReferenceFile(path, item.index, tuple(sorted(item.stated)))
            else:
                path = folder / f"{item.index}.csv"
                points: Any = self._labels[item.index]  # without those that it doesn't state
                frame = AnnotatedFrame(points, index=item.index)
                write_keypoints(path, KeypointFile((frame,)))
                yield ReferenceFile(path, item.index)

    def _extractor(self) -> FeatureExtractor:
        settings = self.settings
        key = repr((settings.model, settings.options))
        if key not in self._extractors:
            self._extractors = {key: create_extractor(settings.model, settings.options)}
        return self._extractors[key]


def _read(path: Path, frame: Frame) -> tuple[Labels, tuple[str, ...]]:
    if is_keypoint_file(path):
        points = load_reference_keypoints(path, frame=frame)
        return points.keypoints, points.notes
    mask = load_reference_mask(path, frame_size=frame.size)
    return mask.masks, mask.notes
