"""Semantic matching of images by the features of an extractor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from propagate.features.base import FeatureExtractor, FittedExtractor
from propagate.matching.semantic import SemanticSettings, match_either_way, match_points
from propagate.recent import Recent
from propagate.types import FeatureMap, Frame, Matches

if TYPE_CHECKING:
    from jaxtyping import Float

_KEPT = 32


def fitted(extractor: FeatureExtractor, first: Callable[[], Sequence[Frame]]) -> FeatureExtractor:
    """The extractor, which has looked at some images if it is one that must.

    Args:
        extractor: any.
        first: gives the images.
    """
    if isinstance(extractor, FittedExtractor):
        extractor.fit(first())
    return extractor


class MapCache:
    """Feature maps of images, the latest of which are kept.

    Args:
        extractor: of the maps; see `fitted`.
    """

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor = extractor
        self._maps: Recent[tuple[str, int], FeatureMap] = Recent(_KEPT)

    @property
    def identity(self) -> str:
        """The extractor's."""
        return self._extractor.identity

    def of(self, frame: Frame) -> FeatureMap:
        """The map of an image, known by its source and index."""
        key = frame.source, frame.index
        return self._maps.get(key, lambda: self._extractor.extract([frame])[0])


class FeatureMatcher:
    """A `PairMatcher` by features; see `match_points`.

    Args:
        extractor: of the features.
        settings: of the search.
        flip: whether to match the mirrored source too and keep the better of both.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        settings: SemanticSettings,
        *,
        flip: bool = False,
    ) -> None:
        self._maps = MapCache(extractor)
        self._settings = settings
        self._flip = flip

    @property
    def identity(self) -> str:
        """The extractor's; the settings are the caller's to record."""
        return self._maps.identity

    def match(
        self,
        source: Frame,
        target: Frame,
        xy: Float[np.ndarray, "n 2"],
        *,
        subject: str | None = None,
    ) -> Matches:
        """See `PairMatcher`."""
        del subject
        maps = self._maps.of(source), self._maps.of(target)
        if not self._flip:
            return match_points(*maps, xy, self._settings)
        mirrored = self._maps.of(mirror(source))
        return match_either_way(maps[0], mirrored, maps[1], xy, self._settings)[0]


class SubjectMatcher:
    """A `PairMatcher` whose model reads what the images show, such as "a photo of a {category}".

    Args:
        make: the matcher of a subject; the latest alone is kept, so subjects should come in blocks.
        first: the subject that the identity is taken from.
        template: where it stands in the text, for the identity.
    """

    def __init__(self, make: Callable[[str], FeatureMatcher], *, first: str, template: str) -> None:
        self._make = make
        self._subject, self._matcher = first, make(first)
        self.identity = f"{self._matcher.identity} prompt={template!r}"

    def match(
        self,
        source: Frame,
        target: Frame,
        xy: Float[np.ndarray, "n 2"],
        *,
        subject: str | None = None,
    ) -> Matches:
        """See `PairMatcher`."""
        wanted = self._subject if subject is None else subject
        if wanted != self._subject:
            del self._matcher  # two models may not fit into memory
            self._subject, self._matcher = wanted, self._make(wanted)
        return self._matcher.match(source, target, xy)


def mirror(frame: Frame) -> Frame:
    """An image flipped left to right, under another name."""
    return replace(
        frame, source=f"{frame.source} mirrored", rgb=np.ascontiguousarray(frame.rgb[:, ::-1])
    )
