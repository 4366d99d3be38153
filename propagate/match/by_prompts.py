"""Prompt-optimised matches, with pictures of how they came about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from propagate.match.report import Found
from propagate.match.request import MatchRequest
from propagate.matching.prompt.create import create_prompt_matcher
from propagate.matching.prompt.look import Look, as_matches
from propagate.matching.prompt.matcher import PromptMatcher
from propagate.output.match_picture import draw_similarity
from propagate.output.prompt_picture import PromptStep, draw_prompt
from propagate.progress import Progress
from propagate.stopwatch import Stopwatch
from propagate.types import Frame, Size

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

_MOST_SHEETS = 20


def find_by_prompts(
    request: MatchRequest,
    source: Frame,
    target: Frame,
    xy: Float64[np.ndarray, "n 2"],
    clock: Stopwatch,
    *,
    say: Callable[[str], None],
    progress: Progress[int],
) -> Found:
    """Matches by optimised prompts.

    Args:
        request: what to do; its method is "prompt".
        source: the image with the points.
        target: the other one.
        xy: the points, in pixels.
        clock: is told of the stages.
        say: receives a note when memory runs out.
        progress: told of each step.

    Raises:
        PropagateError: the model can't be loaded or attends to no text, or a point lies outside
            of its image.
    """
    with clock.measure("load model"):
        matcher = create_prompt_matcher(
            request.model, request.options, request.prompt, progress=progress, notify=say
        )
    sheets: list[UInt8[np.ndarray, "h w 3"]] = []

    def drawn() -> Iterator[Look]:
        looks = clock.iterate("match", matcher.looks(source, target, xy))
        for place, look in zip(xy, looks, strict=True):
            if request.output is not None and len(sheets) < _MOST_SHEETS:
                with clock.measure("pictures"):
                    sheets.append(_sheet(matcher, source, target, place, look))
            yield look

    matches = as_matches(xy, drawn())
    heat = None
    if request.heatmap is not None:
        at = np.array(request.heatmap, dtype=np.float64)
        look = next(matcher.looks(source, target, at[None]))
        heat = draw_similarity(source.rgb, target.rgb, at, _at_size(look, target.size))
    return Found(matches, matcher.identity, heat=heat, sheets=tuple(sheets))


def _at_size(look: Look, size: Size) -> Float64[np.ndarray, "h w"]:
    mean = look.layers.mean(axis=0).astype(np.float64)
    resized = cv2.resize(mean, (size.width, size.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized)


def _sheet(
    matcher: PromptMatcher,
    source: Frame,
    target: Frame,
    xy: Float64[np.ndarray, " 2"],
    look: Look,
) -> UInt8[np.ndarray, "h w 3"]:
    course = matcher.course(source, xy)
    seen = matcher.input_of(source).rgb
    steps = []
    for shot in course.snapshots:
        top, height, left, width = shot.window
        crop = seen[top : top + height, left : left + width]
        steps.append(PromptStep(shot.step, crop, shot.map))
    return draw_prompt(
        source.rgb,
        xy,
        target.rgb,
        look.xy,
        layers=look.layers,
        names=matcher.layer_names(target),
        losses=course.losses,
        steps=steps,
    )
