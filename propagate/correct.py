"""A finished run with better references: only what depends on them is propagated again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from propagate.config import KeypointSettings, ModelOptions, PropagationSettings, VideoSettings
from propagate.errors import InputError, OutputError
from propagate.labels.reference_files import ReferenceFile, ReferenceOptions
from propagate.output.run_folder import read_run
from propagate.progress import Progress, no_progress
from propagate.run import RunReport, RunRequest, run_clip
from propagate.types import Size

C = TypeVar("C")


@dataclass(frozen=True, kw_only=True)
class CorrectRequest:
    """What is to be corrected in a run.

    Args:
        run: its folder.
        references: new ones; each replaces an earlier one of its frame.
        remove: frames whose reference is to be dropped.
        clip: where the clip is now, if it was moved.
        everywhere: propagate all frames again, which lets the new references vote in all of them.
        overlay: whether to draw the overlay video and contact sheet anew.
        cache: gigabytes of features that may stay in the folder.
        offline: never ask a model hub.
    """

    run: Path
    references: tuple[ReferenceFile, ...] = ()
    remove: tuple[int, ...] = ()
    clip: str | None = None
    everywhere: bool = False
    overlay: bool = True
    cache: float = 1.0
    offline: bool = False


def correct_run(
    request: CorrectRequest,
    *,
    progress: Progress[Any] = no_progress,
    say: Callable[[str], None] = lambda _: None,
) -> RunReport:
    """Label those frames of a run again that its new references decide.

    They are the frames up to the next complete references before and after each that was added,
    replaced or removed; those have exactly the labels of a fresh run. All other frames keep the
    labels they have, unless `everywhere` is set: then the whole is what a fresh run gives.
    A correction that was interrupted goes on when it is called without new references.

    Args:
        request: what to do.
        progress: as for `run_clip`.
        say: receives notes.

    Raises:
        OutputError: the folder holds no run, or a damaged one.
        InputError: there is nothing to correct, or no such reference to remove.
        PropagateError: whatever `run_clip` raises.
    """
    record = read_run(request.run)
    if not (request.references or request.remove or request.everywhere):
        if record.get("status") == "complete":
            raise InputError(
                f"There is nothing to correct in {request.run}; give a reference as --ref "
                "FRAME=FILE, or the frame of one to drop as --remove FRAME."
            )
        say("The interrupted correction goes on.")
    try:
        run = _run_request(request, record)
    except (KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"The record of {request.run} is damaged or of another version ({error!r}); label the "
            "clip again with `propagate run ... --overwrite`."
        ) from error
    return run_clip(run, progress=progress, say=say)


def _run_request(request: CorrectRequest, record: dict[str, Any]) -> RunRequest:
    config = record["config"]
    earlier = [_stored(request.run, item) for item in config["references"]]
    return RunRequest(
        clip=request.clip or config["clip"],
        references=tuple(_changed(request, earlier)),
        output=request.run,
        frames=config["frames"],
        reader=config["reader"],
        reading=_reading(config["reading"], record.get("skeleton")),
        model=config["model"],
        options=_made(ModelOptions, config["options"], offline=request.offline),
        video=_video(config["video"]),
        mode="correct",
        overlay=request.overlay,
        cache=request.cache,
        everywhere=request.everywhere,
    )


def _stored(run: Path, item: dict[str, Any]) -> ReferenceFile:
    """The copy of a reference that the run keeps."""
    path = run / "references" / f"{int(item['frame']):06d}{item['suffix']}"
    if not path.is_file():
        raise OutputError(
            f"{path} is missing, the reference of frame {item['frame']}; give it again as --ref "
            f"{item['frame']}=FILE."
        )
    objects: Any = item["objects"]
    if isinstance(objects, list):
        objects = tuple(objects)
    return ReferenceFile(path, int(item["frame"]), objects)


def _changed(request: CorrectRequest, earlier: Sequence[ReferenceFile]) -> list[ReferenceFile]:
    there = {file.frame: file for file in earlier}
    for frame in request.remove:
        if frame not in there:
            frames = ", ".join(str(number) for number in sorted(n for n in there if n is not None))
            raise InputError(f"Frame {frame} has no reference to remove; there are {frames}.")
        del there[frame]
    there |= {file.frame: file for file in request.references}
    if not there:
        raise InputError("That would remove the last reference; a run needs one.")
    return [there[frame] for frame in sorted(there, key=lambda frame: frame or 0)]


def _video(values: dict[str, Any]) -> VideoSettings:
    return _made(
        VideoSettings,
        values,
        propagation=_made(PropagationSettings, values["propagation"]),
        keypoints=_made(KeypointSettings, values["keypoints"]),
    )


def _reading(values: dict[str, Any], edges: Any) -> ReferenceOptions:
    size = values["points_size"]
    skeleton = ",".join(f"{first}-{last}" for first, last in edges) if edges else None
    return _made(
        ReferenceOptions, values, points_size=Size(*size) if size else None, skeleton=skeleton
    )


def _made(kind: type[C], values: dict[str, Any], **more: Any) -> C:
    """A settings object from a record; what the record doesn't know has its default."""
    names = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    known = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in names
    }
    return kind(**{**known, **more})
