"""Options that several commands share, and how they override a preset."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar, get_args

import click

from propagate.config import (
    PRESETS,
    MaskDecoding,
    MaskEncoding,
    ModelOptions,
    Precision,
    Preset,
    PropagationSettings,
    VideoSettings,
    WindowShape,
    preset,
)

Command = TypeVar("Command", bound=Callable[..., Any])
T = TypeVar("T")

_MODEL_FIELDS = (
    "t",
    "up_ft_index",
    "ensemble_size",
    "prompt",
    "short_side",
    "seed",
    "device",
    "dtype",
    "offline",
)
_PROPAGATION_FIELDS = {
    "n_last_frames": "n_last_frames",
    "size_mask_neighborhood": "radius",
    "window": "window",
    "limit_references": "limit_references",
    "topk": "topk",
    "temperature": "temperature",
}
_VIDEO_FIELDS = ("mask_encoding", "mask_decoding", "precision")

# DIFT's own names are kept for its knobs.
_OPTIONS = (
    click.option(
        "--preset",
        "preset_name",
        type=click.Choice(list(PRESETS)),
        default="default",
        show_default=True,
        help="Named settings; the options below override single ones.",
    ),
    click.option("--model", help="Model name, pipeline folder or hub id.  [default: the preset's]"),
    click.option("--t", type=int, help="Diffusion step whose noise is added, 0-999."),
    click.option("--up-ft-index", type=int, help="UNet up block to take features from."),
    click.option("--ensemble-size", type=int, help="Noise draws to average."),
    click.option("--prompt", help="Text condition of a diffusion model."),
    click.option("--short-side", type=int, help="Resize frames to this short side, in pixels."),
    click.option("--seed", type=int, help="Seed of the noise.  [default: 0]"),
    click.option("--device", help="auto, cpu, cuda, cuda:N or mps.  [default: auto]"),
    click.option(
        "--dtype", type=click.Choice(get_args(Precision)), help="Precision of the network."
    ),
    click.option("--offline", is_flag=True, default=None, help="Never ask a model hub."),
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
    click.option("--temperature", type=float, help="Votes weigh exp(cosine / temperature)."),
    click.option(
        "--mask-encoding", type=click.Choice(get_args(MaskEncoding)), help="Mask to grid."
    ),
    click.option(
        "--mask-decoding", type=click.Choice(get_args(MaskDecoding)), help="Grid to mask."
    ),
    click.option(
        "--precision", type=click.Choice(get_args(Precision)), help="Precision of similarities."
    ),
)


def propagation_options(command: Command) -> Command:
    """Add the preset, model and propagation options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def resolve_preset(values: dict[str, Any]) -> Preset:
    """Take the shared options out of `values` and apply those given to the preset named there."""
    base = preset(values.pop("preset_name"))
    model = values.pop("model") or base.model
    options = _given(values, {name: name for name in _MODEL_FIELDS})
    knobs = _given(values, _PROPAGATION_FIELDS)
    video = _given(values, {name: name for name in _VIDEO_FIELDS})
    propagation: PropagationSettings = replace(base.video.propagation, **knobs)
    settings: VideoSettings = replace(base.video, propagation=propagation, **video)
    model_options: ModelOptions = replace(base.options, **options)
    return replace(base, model=model, options=model_options, video=settings)


def _given(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    taken = {field: values.pop(option) for option, field in names.items()}
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


def progress_bar(title: str, total: int | None, items: Iterable[T]) -> Iterable[T]:
    """A bar with rate and time left on stderr; nothing when stderr is not a terminal."""
    from tqdm import tqdm

    bar: Iterable[T] = tqdm(items, desc=title, total=total, unit="frame", disable=None)
    return bar
