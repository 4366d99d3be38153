"""Options that say which clip and labels there are, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from propagate.commands.common import Command, parse_size, with_options
from propagate.config import Preset
from propagate.errors import InputError
from propagate.labels.format_registry import format_names

if TYPE_CHECKING:
    from propagate.labels.reference_files import ReferenceFile, ReferenceOptions
    from propagate.output.labelled_clip import LabelSource
    from propagate.run import RunRequest

_CLIP_OPTIONS = (
    click.option(
        "--reader",
        type=click.Choice(["auto", "decord", "pyav", "images", "multipage"]),
        default="auto",
        show_default=True,
        help="What opens the clip.",
    ),
    click.option(
        "--void",
        default="auto",
        show_default=True,
        help="Mask id of unknown pixels: a number, none, or auto (255 beside other ids).",
    ),
    click.option("--binarize", is_flag=True, help="Take everything bright in MASK for one object."),
    click.option(
        "--trust-ids", is_flag=True, help="Accept ids in MASK that look like antialiasing."
    ),
)
_SOURCE_OPTIONS = (
    click.option(
        "--clip", help="The video or images; needed where LABELS don't say, or the clip has moved."
    ),
    click.option(
        "--from",
        "from_format",
        type=click.Choice(format_names()),
        help="Mask format of LABELS.  [default: found out]",
    ),
    click.option("--video", metavar="NAME", help="Which clip of LABELS, where it has several."),
    click.option("--points-size", metavar="WxH", help="Pixels of what keypoints were marked on."),
)


def reference_option(command: Command) -> Command:
    """Add `--ref`, as `references`."""
    return click.option(
        "--ref",
        "references",
        multiple=True,
        metavar="FRAME=FILE[:OBJECTS]",
        help="Labels of another frame, counted from 0; may be repeated. OBJECTS: ids that a mask "
        "is about, joined by commas, or all.  [default: those with pixels in it]",
    )(command)


def cache_option(command: Command) -> Command:
    """Add `--cache`."""
    return click.option(
        "--cache",
        type=float,
        default=1.0,
        show_default=True,
        help="GB of features to keep in the output folder, which make corrections fast.",
    )(command)


def reference_files(labels: Path | None, references: Sequence[str]) -> tuple[ReferenceFile, ...]:
    """The files of LABELS, which belong to the first frame, and of `--ref`.

    Raises:
        InputError: a reference is malformed.
    """
    from propagate.labels.reference_files import ReferenceFile

    first = () if labels is None else (ReferenceFile(labels),)
    return (*first, *(ReferenceFile.parse(text) for text in references))


def clip_options(command: Command) -> Command:
    """Add the options that say how clips and masks are read."""
    return with_options(command, _CLIP_OPTIONS)


def source_options(command: Command) -> Command:
    """Add the options that say what labels and clip to look at."""
    return with_options(command, _SOURCE_OPTIONS)


def label_source(labels: Path, values: dict[str, Any]) -> LabelSource:
    """Labels and clip from the options of `source_options`, which are taken out of `values`."""
    from propagate.output.labelled_clip import LabelSource
    from propagate.types import Size

    size = values.pop("points_size")
    return LabelSource(
        labels=labels,
        points_size=None if size is None else Size(*parse_size(size, "--points-size")),
        **{name: values.pop(name) for name in ("clip", "from_format", "video")},
    )


def parse_void(text: str) -> int | Literal["auto"] | None:
    """The value of `--void`.

    Raises:
        InputError: it is neither a number nor one of the words.
    """
    if text == "auto":
        return "auto"
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--void is {text!r}; it must be a number, none or auto.") from None


def run_request(settings: Preset, values: dict[str, Any], **more: Any) -> RunRequest:
    """The request that a preset, the clip options and, where there are any, keypoint options make.

    Args:
        settings: resolved.
        values: by the names of options.
        more: the other fields of the request.

    Raises:
        InputError: a value is not allowed.
    """
    from propagate.run import RunRequest

    return RunRequest(
        reader=values["reader"],
        reading=reading_options(values),
        model=settings.model,
        options=settings.options,
        video=settings.video,
        **more,
    )


def reading_options(values: dict[str, Any]) -> ReferenceOptions:
    """How references are read, by the clip options and, where there are any, keypoint options.

    Raises:
        InputError: a value is not allowed.
    """
    from propagate.labels.reference_files import ReferenceOptions
    from propagate.types import Size

    size = values.get("points_size")
    return ReferenceOptions(
        void=parse_void(values["void"]),
        binarize=values["binarize"],
        trust_ids=values["trust_ids"],
        points_size=Size(*parse_size(size, "--points-size")) if size else None,
        skeleton=values.get("skeleton"),
    )


def davis_options(*, split: str) -> Callable[[Command], Command]:
    """Add the options that say which sequences of DAVIS are scored; `split` is the default one."""
    options = (
        click.option(
            "--root",
            type=click.Path(path_type=Path),
            required=True,
            help="Folder with ImageSets, JPEGImages and Annotations.",
        ),
        click.option(
            "--year", type=click.Choice(["2016", "2017"]), default="2017", show_default=True
        ),
        click.option(
            "--split", default=split, show_default=True, help="Name of the ImageSets list."
        ),
        click.option(
            "--sequence", "names", multiple=True, help="Only this sequence; may be repeated."
        ),
    )
    return lambda command: with_options(command, options)
