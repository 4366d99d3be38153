"""What a user says about a transfer."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from propagate.config import EMBEDDED_MODEL, ModelOptions, VideoSettings
from propagate.errors import InputError
from propagate.labels.reference_files import ReferenceOptions
from propagate.output.record_folder import Mode
from propagate.video import ReaderName


@dataclass(frozen=True, kw_only=True)
class TransferRequest:
    """Everything a user says about one transfer.

    Args:
        sources: (image, mask or keypoint file) pairs; all masks, or all keypoints. An id or a name
            that several have is one object or point. Of a clip the first frame is taken.
        target: the clip, or one image.
        output: folder to write.
        frame: frame of the target to match, from 0; None for the best of some.
        run: whether to propagate the labels through the clip.
        least_confidence: of a match that is accepted, 0 to 1; None for that of the kind of label.
        reader: which reader opens the target.
        reading: how the sources' labels are read.
        model: of the propagation: name or path for the registry.
        options: model options of the propagation.
        match_model: of the matching; None for `model`. It has its own defaults for the task
            "semantic".
        match_options: model options of the matching.
        video: propagation settings.
        mode: what to do when `output` exists.
        overlay: whether to draw the overlay video and contact sheet of the run.
        cache: gigabytes of features that may stay in the folder, for corrections.
    """

    sources: tuple[tuple[Path, Path], ...]
    target: str
    output: Path
    frame: int | None = None
    run: bool = True
    least_confidence: float | None = None
    reader: ReaderName = "auto"
    reading: ReferenceOptions = field(default_factory=ReferenceOptions)
    model: str = EMBEDDED_MODEL
    options: ModelOptions = field(default_factory=ModelOptions)
    match_model: str | None = None
    match_options: ModelOptions = field(default_factory=ModelOptions)
    video: VideoSettings = field(default_factory=VideoSettings)
    mode: Mode = "new"
    overlay: bool = True
    cache: float = 0.0

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError("There is no source; give one or more as --from IMAGE=LABELS.")
        if self.frame is not None and self.frame < 0:
            raise InputError(f"frame is {self.frame}; frames count from 0.")
        least = self.least_confidence
        if least is not None and not 0 <= least <= 1:
            raise InputError(f"The least confidence is {least}; it must be from 0 to 1.")
        if self.mode == "resume":
            raise InputError("A transfer can't be resumed; it is short, so start over.")

    def config(self) -> dict[str, Any]:
        """What decides the labels, with checksums of the given ones."""
        fields = asdict(self)
        for name in ("output", "mode", "overlay", "cache", "run", "sources"):
            del fields[name]
        sources = [
            {
                "image": str(image.absolute()),
                "labels": str(labels.absolute()),
                "labels_sha256": hashlib.sha256(labels.read_bytes()).hexdigest(),
            }
            for image, labels in self.sources
        ]
        return fields | {"target": str(Path(self.target).absolute()), "sources": sources}
