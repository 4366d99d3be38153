"""One way to carry masks or keypoints from images to another, whichever they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Generic, Protocol

from propagate.config import VideoSettings
from propagate.labels.codec import MaskCodec
from propagate.matching.flecks import without_flecks
from propagate.matching.points import transfer_points
from propagate.matching.transfer import MatchingSettings, Trust, transfer_field
from propagate.types import FeatureMap, Keypoints, L, Masks


@dataclass(frozen=True)
class Match(Generic[L]):
    """Labels that came from other images.

    Args:
        labels: of the target.
        trust: in each object, by its id, or in each point that a source shows, by its name.
        confidence: that sources and target show the same kind of thing, 0 to 1; comparable among
            masks and among points.
    """

    labels: L
    trust: Mapping[str, Trust]
    confidence: float

    @property
    def lost(self) -> tuple[str, ...]:
        """The objects without a pixel and the points that are not visible."""
        if isinstance(self.labels, Keypoints):
            pairs = zip(self.labels.names, self.labels.visible, strict=True)
            there = {str(name) for name, visible in pairs if visible}
        else:
            there = {str(i) for i in self.labels.object_ids}
        return tuple(name for name in self.trust if name not in there)


class Matcher(Protocol[L]):
    """Carries the labels of fixed sources to any target."""

    @property
    def least_confidence(self) -> float:
        """From which confidence on a match usually is one; see docs/how-to/transfer.md."""
        ...

    def match(self, target: FeatureMap) -> Match[L]:
        """Labels of the target's image."""
        ...


class MaskMatcher:
    """Carries masks.

    Args:
        sources: one or more, with masks at image size.
        video: how masks become soft labels and back.
        settings: of the vote.
    """

    least_confidence = 0.22

    def __init__(
        self,
        sources: Sequence[tuple[FeatureMap, Masks]],
        video: VideoSettings,
        settings: MatchingSettings | None = None,
    ) -> None:
        ids = sorted({i for _, masks in sources for i in masks.object_ids})
        self._codec = MaskCodec(tuple(ids), video.mask_encoding, video.mask_decoding)
        self._sources = [
            (features, self._codec.encode(masks, features.grid, image_size=features.image_size))
            for features, masks in sources
        ]
        self._settings = settings or MatchingSettings()

    def match(self, target: FeatureMap) -> Match[Masks]:
        """Masks of the target's image, with the ids of the sources."""
        found = transfer_field(self._sources, target, self._settings)
        masks = self._codec.decode(
            found.field, image_size=target.image_size, input_size=target.input_size
        )
        masks = without_flecks(masks, self._settings.fleck)
        pairs = zip(found.field.ids, found.trust, strict=True)
        trust = {str(i): item for i, item in pairs if i != 0}
        return Match(masks, trust, fmean(item.confidence for item in trust.values()))


class PointMatcher:
    """Carries keypoints.

    Args:
        sources: one or more, with points in pixels of their image.
        video: says from which confidence a point is visible.
        settings: of the search.
    """

    least_confidence = 0.27

    def __init__(
        self,
        sources: Sequence[tuple[FeatureMap, Keypoints]],
        video: VideoSettings,
        settings: MatchingSettings | None = None,
    ) -> None:
        self._sources = sources
        self._visible_from = video.keypoints.visible_from
        self._settings = settings

    def match(self, target: FeatureMap) -> Match[Keypoints]:
        """The points of all sources on the target's image."""
        points, trust = transfer_points(
            self._sources, target, self._settings, visible_from=self._visible_from
        )
        shown = {
            name
            for _, source in self._sources
            for name, visible in zip(source.names, source.visible, strict=True)
            if visible
        }
        pairs = zip(points.names, trust, strict=True)
        by_name = {str(name): item for name, item in pairs if name in shown}
        # The way back tells right places from wrong ones, but not whether the images fit.
        confidence = fmean(max(item.similarity, 0.0) for item in by_name.values())
        return Match(points, by_name, min(confidence, 1.0))
