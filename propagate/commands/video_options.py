"""Options of propagation and of its labels, and how they override a preset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import click

from propagate.commands.common import Command, given_values, with_options
from propagate.commands.model_options import MODEL_OPTIONS, resolve_model
from propagate.config import (
    Direction,
    KeypointDecoding,
    KeypointEncoding,
    KeypointSettings,
    MaskDecoding,
    MaskEncoding,
    Precision,
    Preset,
    PropagationSettings,
    VideoSettings,
    WindowShape,
    preset,
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


def propagation_options(command: Command) -> Command:
    """Add the preset, model and propagation options to a command."""
    return with_options(command, (*MODEL_OPTIONS, *_PROPAGATION_OPTIONS))


def keypoint_options(command: Command) -> Command:
    """Add the options that are about keypoints to a command."""
    return with_options(command, _KEYPOINT_OPTIONS)


def keypoint_knobs(command: Command) -> Command:
    """Add the options that say how keypoints go onto the grid and back."""
    return with_options(command, _KEYPOINT_KNOBS)


def resolve_preset(values: dict[str, Any], *, otherwise: str = "default") -> Preset:
    """Take the shared options out of `values` and apply those given to the preset named there.

    Args:
        values: by the names of options.
        otherwise: the preset where none is named.
    """
    base = preset(values["preset_name"] or otherwise)
    model, options = resolve_model(values, otherwise=otherwise)
    knobs = given_values(values, _PROPAGATION_FIELDS)
    points = given_values(values, _KEYPOINT_FIELDS)
    video = given_values(values, {name: name for name in _VIDEO_FIELDS})
    propagation: PropagationSettings = replace(base.video.propagation, **knobs)
    keypoints: KeypointSettings = replace(base.video.keypoints, **points)
    settings: VideoSettings = replace(
        base.video, propagation=propagation, keypoints=keypoints, **video
    )
    return replace(base, model=model, options=options, video=settings)
