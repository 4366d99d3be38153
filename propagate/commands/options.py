"""Options that several commands share, and how they override a preset."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import click

from propagate.config import (
    PRESETS,
    RIVAL_OPTIONS,
    Direction,
    Facet,
    KeypointDecoding,
    KeypointEncoding,
    KeypointSettings,
    LatentMode,
    MaskDecoding,
    MaskEncoding,
    ModelOptions,
    Precision,
    Preset,
    PropagationSettings,
    Resizing,
    Task,
    VideoSettings,
    WindowShape,
    preset,
)
from propagate.errors import InputError
from propagate.features.card import COMMON_OPTIONS
from propagate.features.families.stored import is_stored
from propagate.labels.format_registry import format_names

if TYPE_CHECKING:
    from propagate.labels.reference_files import ReferenceFile, ReferenceOptions
    from propagate.output.labelled_clip import LabelSource
    from propagate.run import RunRequest

Command = TypeVar("Command", bound=Callable[..., Any])
T = TypeVar("T")

EXIT_SOME_FAILED = 3

_MODEL_FIELDS = (
    "t",
    "up_ft_index",
    "layer",
    "facet",
    "ensemble_size",
    "prompt",
    "latent",
    "prune",
    "short_side",
    "input_size",
    "resizing",
    "pca",
    "whitening",
    "seed",
    "device",
    "dtype",
    "compile",
    "batch_size",
    "memory",
    "offline",
)
_PROPAGATION_FIELDS = {
    "n_last_frames": "n_last_frames",
    "size_mask_neighborhood": "radius",
    "window": "window",
    "limit_references": "limit_references",
    "topk": "topk",
    "ties": "ties",
    "repeat_first": "repeat_first",
    "temperature": "temperature",
    "cut_below": "cut_below",
    "patch": "patch",
}
_KEYPOINT_FIELDS = {
    "keypoint_sigma": "sigma",
    "keypoint_encoding": "encoding",
    "keypoint_decoding": "decoding",
    "visible_from": "visible_from",
}
_VIDEO_FIELDS = ("mask_encoding", "mask_decoding", "precision", "direction")

# DIFT's own names are kept for its knobs.
_MODEL_OPTIONS = (
    click.option(
        "--preset",
        "preset_name",
        type=click.Choice(list(PRESETS)),
        help="Named settings; the options below override single ones.  "
        "[default: keypoints where they are carried, else default]",
    ),
    click.option(
        "--model",
        help="Model name, folder, hub id, or several as NAME:WEIGHT+NAME.  [default: the preset's]",
    ),
    click.option("--t", type=int, help="Diffusion step whose noise is added, 0-999."),
    click.option("--up-ft-index", type=int, help="UNet up block to take features from."),
    click.option("--layer", help="Layer to take features from; several as A+B are fused."),
    click.option(
        "--facet",
        type=click.Choice(get_args(Facet)),
        help="What to take of a transformer block.",
    ),
    click.option("--ensemble-size", type=int, help="Noise draws to average."),
    click.option("--prompt", help="Text condition of a diffusion model."),
    click.option(
        "--latent",
        type=click.Choice(get_args(LatentMode)),
        help="Draw latents from the VAE's posterior, or take its mean.",
    ),
    click.option(
        "--prune", type=float, help="Leave out maps with less than this share of an aggregation."
    ),
    click.option("--short-side", type=int, help="Resize frames to this short side, in pixels."),
    click.option("--input-size", metavar="WxH", help="Resize frames to this very size, in pixels."),
    click.option(
        "--resizing",
        type=click.Choice(get_args(Resizing)),
        help="How: bilinear without, or bicubic with antialiasing.  [default: the model's]",
    ),
    click.option("--pca", type=int, help="Principal components to keep."),
    click.option("--whitening", type=float, help="How much weak components are lifted, 0-1."),
    click.option("--seed", type=int, help="Seed of the noise.  [default: 0]"),
    click.option("--device", help="auto, cpu, cuda, cuda:N or mps.  [default: auto]"),
    click.option(
        "--dtype", type=click.Choice(get_args(Precision)), help="Precision of the network."
    ),
    click.option("--compile", is_flag=True, default=None, help="Compile the network's blocks."),
    click.option("--batch-size", type=int, help="Most network inputs computed at once."),
    click.option("--memory", type=float, help="GB that activations may take; sets the batch."),
    click.option("--offline", is_flag=True, default=None, help="Never ask a model hub."),
)
_STORE_OPTIONS = (
    click.option(
        "--store-dtype",
        type=click.Choice(["fp16", "bf16", "fp32"]),
        default="fp16",
        show_default=True,
        help="Floating-point type of the stored features.",
    ),
    click.option(
        "--raw", is_flag=True, help="Store maps as they come, not with norm 1 in each cell."
    ),
)
_PROPAGATION_OPTIONS = (
    click.option("--n-last-frames", type=int, help="Latest frames in the context."),
    click.option(
        "--size-mask-neighborhood", type=int, help="Radius of the search window in cells; 0: none."
    ),
    click.option(
        "--window", type=click.Choice(get_args(WindowShape)), help="Shape of the search window."
    ),
    click.option(
        "--limit-references/--free-references",
        default=None,
        help="Whether the window limits the annotated frame too.",
    ),
    click.option("--topk", type=int, help="Neighbours that vote."),
    click.option(
        "--ties/--no-ties",
        default=None,
        help="Whether those that tie with the last one vote too.",
    ),
    click.option(
        "--repeat-first/--no-repeat-first",
        default=None,
        help="Whether the annotated frame stands in for latest frames that are not there yet.",
    ),
    click.option("--temperature", type=float, help="Votes weigh exp(cosine / temperature)."),
    click.option(
        "--cut-below", type=float, help="Continuity of a scene cut, 0-1; 0: look for none."
    ),
    click.option(
        "--patch", type=int, help="Soft labels along each side of a cell; they move as one."
    ),
    click.option(
        "--mask-encoding", type=click.Choice(get_args(MaskEncoding)), help="Mask to grid."
    ),
    click.option(
        "--mask-decoding", type=click.Choice(get_args(MaskDecoding)), help="Grid to mask."
    ),
    click.option(
        "--precision", type=click.Choice(get_args(Precision)), help="Precision of similarities."
    ),
    click.option(
        "--direction",
        type=click.Choice(get_args(Direction)),
        help="Where labels go from an annotated frame; auto is both, or forward from the first.",
    ),
)
_KEYPOINT_KNOBS = (
    click.option("--keypoint-sigma", type=float, help="Size of a keypoint on the grid, in cells."),
    click.option(
        "--keypoint-encoding", type=click.Choice(get_args(KeypointEncoding)), help="Point to grid."
    ),
    click.option(
        "--keypoint-decoding", type=click.Choice(get_args(KeypointDecoding)), help="Grid to point."
    ),
    click.option("--visible-from", type=float, help="Least confidence of a visible keypoint, 0-1."),
)
_KEYPOINT_OPTIONS = (
    click.option("--points-size", metavar="WxH", help="Pixels of what keypoints were marked on."),
    click.option("--skeleton", metavar="A-B,B-C", help="Keypoints to join; the file's by default."),
    *_KEYPOINT_KNOBS,
)


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
    return _with(command, _CLIP_OPTIONS)


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


def source_options(command: Command) -> Command:
    """Add the options that say what labels and clip to look at."""
    return _with(command, _SOURCE_OPTIONS)


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


def output_mode(*, overwrite: bool, resume: bool) -> Literal["new", "overwrite", "resume"]:
    """What to do with an output folder that is there.

    Raises:
        UsageError: both are given.
    """
    if overwrite and resume:
        raise click.UsageError("--overwrite and --resume exclude each other; give one.")
    return "overwrite" if overwrite else "resume" if resume else "new"


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
    return lambda command: _with(command, options)


def model_options(command: Command) -> Command:
    """Add the preset and model options to a command."""
    return _with(command, _MODEL_OPTIONS)


def propagation_options(command: Command) -> Command:
    """Add the preset, model and propagation options to a command."""
    return _with(command, (*_MODEL_OPTIONS, *_PROPAGATION_OPTIONS))


def keypoint_options(command: Command) -> Command:
    """Add the options that are about keypoints to a command."""
    return _with(command, _KEYPOINT_OPTIONS)


def store_options(command: Command) -> Command:
    """Add the options that say how feature maps are stored."""
    return _with(command, _STORE_OPTIONS)


def keypoint_knobs(command: Command) -> Command:
    """Add the options that say how keypoints go onto the grid and back."""
    return _with(command, _KEYPOINT_KNOBS)


def _with(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def resolve_model(
    values: dict[str, Any], *, otherwise: str = "default", task: Task = "propagation"
) -> tuple[str, ModelOptions]:
    """Take the model options out of `values` and apply those given to the preset named there.

    Args:
        values: by the names of options.
        otherwise: the preset where none is named.
        task: what the model is for. Presets are of propagation: of step, layer and size another
            task takes the model's own defaults.

    Raises:
        InputError: a value is not allowed.
    """
    base = preset(values.pop("preset_name") or otherwise)
    model = values.pop("model") or base.model
    given = _given(values, {name: name for name in _MODEL_FIELDS})
    if "input_size" in given:
        given["input_size"] = parse_size(given["input_size"], "--input-size")
    options = base.options
    if is_stored(model):
        options = ModelOptions()
    elif model != base.model:
        # A step or layer that a preset names is one of its own model.
        shared = {name: getattr(options, name) for name in COMMON_OPTIONS}
        options = ModelOptions(**shared)
    elif task != "propagation":
        options = ModelOptions()
    for rivals in RIVAL_OPTIONS:
        if any(name in given for name in rivals):
            nothing: dict[str, Any] = dict.fromkeys(rivals)
            options = replace(options, **nothing)
    options = replace(options, **given)
    if given.get("whitening") and options.pca is None:
        raise InputError("--whitening lifts principal components, and there are none; add --pca.")
    return model, options


def parse_size(text: str, option: str) -> tuple[int, int]:
    """Height and width from "WIDTHxHEIGHT".

    Raises:
        InputError: it is none; `option` is named.
    """
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if match is None:
        raise InputError(
            f"{option} is {text!r}; write width and height in pixels, for example 854x480."
        )
    return int(match[2]), int(match[1])


def resolve_preset(values: dict[str, Any], *, otherwise: str = "default") -> Preset:
    """Take the shared options out of `values` and apply those given to the preset named there.

    Args:
        values: by the names of options.
        otherwise: the preset where none is named.
    """
    base = preset(values["preset_name"] or otherwise)
    model, options = resolve_model(values, otherwise=otherwise)
    knobs = _given(values, _PROPAGATION_FIELDS)
    points = _given(values, _KEYPOINT_FIELDS)
    video = _given(values, {name: name for name in _VIDEO_FIELDS})
    propagation: PropagationSettings = replace(base.video.propagation, **knobs)
    keypoints: KeypointSettings = replace(base.video.keypoints, **points)
    settings: VideoSettings = replace(
        base.video, propagation=propagation, keypoints=keypoints, **video
    )
    return replace(base, model=model, options=options, video=settings)


def _given(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    taken = {field: values.pop(option, None) for option, field in names.items()}
    return {field: value for field, value in taken.items() if value is not None}


def quiet_decoders() -> None:
    """Keep FFmpeg from writing to stderr; what could not be decoded is reported by the readers."""
    import av.logging

    av.logging.set_level(av.logging.PANIC)
    try:
        import decord
    except (ImportError, OSError):
        return
    decord.logging.set_level(decord.logging.QUIET)


def progress_bar(
    title: str, total: int | None, items: Iterable[T], *, unit: str = "frame"
) -> Iterable[T]:
    """A bar with rate and time left on stderr; nothing when stderr is not a terminal."""
    from tqdm import tqdm

    bar: Iterable[T] = tqdm(items, desc=title, total=total, unit=unit, disable=None)
    return bar
