"""Data sets of image pairs with keypoints: points of one image are looked for in the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.benchmarks.base import Benchmark, Curve, Row, UnitScore, decisive_options, short
from propagate.benchmarks.pairs import KeypointPair, PckProtocol, picture
from propagate.benchmarks.pictures import compared_points, compared_sides
from propagate.config import Preset
from propagate.errors import InputError, LabelError
from propagate.features.registry import create_extractor, understands
from propagate.geometry import map_points
from propagate.matching.base import PairMatcher
from propagate.matching.feature_matcher import FeatureMatcher, SubjectMatcher, fitted
from propagate.matching.prompt.settings import PromptSettings
from propagate.matching.semantic import SemanticSettings
from propagate.metrics.pck import PckSummary, summarise

if TYPE_CHECKING:
    from jaxtyping import Float64, UInt8

SUBJECT = "{category}"
"""Stands in a prompt for what a pair shows."""
PUBLISHED_PROMPT = f"a photo of a {SUBJECT}"
"""Of DIFT_sd; taken by models that read text unless there is another prompt."""
_FILE = "matches.json"
_CURVE = tuple(np.round(np.arange(0.01, 0.2001, 0.01), 2).tolist())
_WAYS = ("PCK", "copy")


class PairBenchmark(Benchmark[PairMatcher]):
    """Pairs of images.

    Args:
        title: name of the data set.
        pairs: those to score; others of the data set may have been left out.
        protocol: of the scores.
        matching: of the search by features, or by optimised prompts.
        flip: whether to match the mirrored source too and keep the better of both; by features.
        choice: which pairs these are, JSON values.
        published: data set in `published.yaml` that the pairs are all of.

    Raises:
        InputError: there is no pair, the protocol needs boxes that the data set has not, or prompts
            are to be flipped.
    """

    unit_kind = "category"
    streams = False
    picture_kind = "image"

    def __init__(
        self,
        title: str,
        pairs: Sequence[KeypointPair],
        *,
        protocol: PckProtocol,
        matching: SemanticSettings | PromptSettings,
        flip: bool = False,
        choice: Mapping[str, Any] | None = None,
        published: str | None = None,
    ) -> None:
        if not pairs:
            raise InputError(f"There is no pair of {title} to score.")
        if flip and isinstance(matching, PromptSettings):
            raise InputError("--flip is for --method semantic; leave one of them out.")
        if protocol.normaliser != "image":  # which every pair has, but in its file
            for pair in pairs:
                pair.side(protocol.normaliser)
        self._title = title
        self._pairs = {pair.unit: pair for pair in pairs}
        self._protocol = protocol
        self._matching = matching
        self._flip = flip
        self._choice = dict(choice or {})
        self.published = published

    @property
    def name(self) -> str:
        """`SPair-71k test, 12234 pairs`."""
        return f"{self._title}, {len(self._pairs)} pairs"

    @property
    def protocol(self) -> str:
        """What is divided by what."""
        return (
            f"{self._protocol}; img: mean over pairs of the share of right points, pt: share of "
            "all points; copy: each point at the same relative place of the other image."
        )

    @property
    def units(self) -> tuple[str, ...]:
        """`category/pair`."""
        return tuple(self._pairs)

    @property
    def metrics(self) -> tuple[str, ...]:
        """PCK at each threshold per image and per point, and that of the copy."""
        alphas = self._protocol.alphas
        shown = [f"PCK@{short(alpha)} {kind}" for alpha in alphas for kind in ("img", "pt")]
        return (*shown, *(f"copy@{short(alpha)} img" for alpha in alphas))

    @property
    def options(self) -> Mapping[str, Any]:
        """Which pairs and how they are matched; the protocol concerns scores alone."""
        return {**self._choice, "matching": asdict(self._matching), "flip": self._flip}

    def decisive(self, settings: Preset) -> dict[str, Any]:
        """Model and model options."""
        return {"model": settings.model, "options": decisive_options(settings)}

    def described(self, settings: Preset) -> str:
        """The matcher's settings."""
        del settings
        return f"{self._matching}{' flip' if self._flip else ''}"

    def load(self, settings: Preset) -> PairMatcher:
        """A matcher; of features one for each category where the prompt names it."""
        model, options = settings.model, settings.options
        if isinstance(self._matching, PromptSettings):
            # Brings diffusers along, which takes seconds.
            from propagate.matching.prompt.create import create_prompt_matcher

            return create_prompt_matcher(model, options, self._matching)
        prompt = options.prompt
        if prompt is None and understands(model, "prompt", offline=options.offline):
            prompt = PUBLISHED_PROMPT
        if prompt is None or SUBJECT not in prompt:
            return self._by_features(settings, self._matching)
        matching = self._matching

        def make(subject: str) -> FeatureMatcher:
            told = replace(options, prompt=prompt.replace(SUBJECT, subject))
            return self._by_features(replace(settings, options=told), matching)

        first = next(iter(self._pairs.values()))
        return SubjectMatcher(make, first=first.shown, template=prompt)

    def _by_features(self, settings: Preset, matching: SemanticSettings) -> FeatureMatcher:
        extractor = create_extractor(settings.model, settings.options, task="semantic")
        pair = next(iter(self._pairs.values()))
        fitted(extractor, lambda: [picture(pair.source), picture(pair.target)])
        return FeatureMatcher(extractor, matching, flip=self._flip)

    def predict(self, unit: str, settings: Preset, engine: PairMatcher, folder: Path) -> int:
        """Write the places found in the target (null where there is none), and the copied ones."""
        del settings
        pair = self._pairs[unit]
        source, target = picture(pair.source), picture(pair.target)
        # An annotated point may lie on or just beyond the border.
        inside = np.clip(pair.source_xy, 0, (source.size.width, source.size.height))
        matches = engine.match(source, target, inside, subject=pair.shown)
        xy: list[list[float] | None] = [None] * len(inside)
        for row, query in enumerate(matches.query):
            if xy[query] is None:
                xy[query] = [round(float(value), 3) for value in matches.target_xy[row]]
        copied = np.round(map_points(inside, source.size, target.size), 3).tolist()
        text = json.dumps({"target_xy": xy, "copied_xy": copied})
        (folder / _FILE).write_text(text + "\n", encoding="utf-8")
        return 2

    def score(self, unit: str, folder: Path) -> UnitScore:
        """PCK of a pair; the places go into that of the data set."""
        pair = self._pairs[unit]
        places = _read(folder / _FILE, len(pair.target_xy))
        side = pair.side(self._protocol.normaliser)
        scores = {
            f"{way}@{short(alpha)} img": _percent(self._protocol.correct(xy, pair, side, alpha))
            for way, xy in zip(_WAYS, places, strict=True)
            for alpha in self._protocol.alphas
        }
        facts = {
            "points": float(len(pair.target_xy)),
            "side": round(side, 3),
        }
        return UnitScore(
            unit, (Row(pair.category, pair.name, {**scores, **facts}),), data=(places, side)
        )

    def summarise(self, scores: Sequence[UnitScore]) -> dict[str, float]:
        """Over all pairs, and as means over categories."""
        found = self._summaries(scores)
        return _columns(found, lambda summary: summary.overall) | {
            f"{name}, mean of categories": value
            for name, value in _columns(found, lambda summary: summary.category_mean).items()
            if name.endswith((" img", " pt"))
        }

    def listed(self, scores: Sequence[UnitScore]) -> Sequence[Row]:
        """A row for each category."""
        found = self._summaries(scores)
        names = next(iter(found.values())).categories
        return [Row(name, "", _columns(found, partial(_category, name=name))) for name in names]

    def curve(self, scores: Sequence[UnitScore]) -> Curve:
        """PCK per image over alpha."""
        lines = {
            name: [100 * self._summary(scores, which, alpha).overall.per_image for alpha in _CURVE]
            for which, name in enumerate(("matched", "same place copied"))
        }
        return Curve("alpha", "PCK per image", _CURVE, lines)

    def picture(
        self, score: UnitScore, folder: Path
    ) -> tuple[UInt8[np.ndarray, "h w 3"], str] | None:
        """The source with its points, and the target with true and predicted ones."""
        del folder
        pair = self._pairs[score.unit]
        everywhere = np.ones(len(pair.source_xy), dtype=np.bool_)
        drawn = compared_sides(
            compared_points(picture(pair.source).rgb, pair.source_xy, pair.source_xy, everywhere),
            compared_points(picture(pair.target).rgb, score.data[0][0], pair.target_xy, everywhere),
        )
        metric = self.metrics[0]
        return drawn, f"{metric} {score.mean(metric):.1f}: {score.unit}"

    def _summaries(self, scores: Sequence[UnitScore]) -> dict[str, PckSummary]:
        return {
            f"{way}@{short(alpha)}": self._summary(scores, which, alpha)
            for which, way in enumerate(_WAYS)
            for alpha in self._protocol.alphas
        }

    def _summary(self, scores: Sequence[UnitScore], which: int, alpha: float) -> PckSummary:
        rows = [(self._pairs[score.unit], *score.data) for score in scores]
        return summarise(
            [
                (pair.category, self._protocol.correct(places[which], pair, side, alpha))
                for pair, places, side in rows
            ]
        )


def _columns(
    found: Mapping[str, PckSummary], part: Callable[[PckSummary], Any]
) -> dict[str, float]:
    """Both means in per cent, and what they are of."""
    parts = {name: part(summary) for name, summary in found.items()}
    columns = {}
    for name, pck in parts.items():
        columns[f"{name} img"] = 100 * pck.per_image
        columns[f"{name} pt"] = 100 * pck.per_point
    first = next(iter(parts.values()))
    return columns | {"pairs": float(first.pairs), "points": float(first.points)}


def _category(summary: PckSummary, *, name: str) -> Any:
    return summary.categories[name]


def _read(path: Path, count: int) -> list[Float64[np.ndarray, "n 2"]]:
    """Found and copied places; NaN where nothing was found.

    Raises:
        LabelError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [
            np.array(
                [(np.nan, np.nan) if at is None else at for at in content[key]], dtype=np.float64
            ).reshape(count, 2)
            for key in ("target_xy", "copied_xy")
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabelError(
            f"{path} can't be read ({error}); remove its folder to match the pair again."
        ) from error
    return found


def _percent(correct: np.ndarray) -> float:
    return 100 * float(correct.mean()) if len(correct) else float("nan")
