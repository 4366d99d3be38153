"""What comes of a match."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from propagate.matching.geometric import Transform
from propagate.output.match_folder import MatchFolder
from propagate.types import Matches

if TYPE_CHECKING:
    from jaxtyping import UInt8


@dataclass(frozen=True, repr=False, eq=False)
class Found:
    """What one of the methods finds.

    Args:
        matches: in pixels of both images.
        model: identity of what was computed with.
        transform: what was fitted, if anything.
        flipped: whether the matches are those of the mirrored source.
        heat: the picture of what resembles one point, where it was asked for.
        sheets: pictures of how each of the first points was found, if the method draws any.
    """

    matches: Matches
    model: str
    transform: Transform | None = None
    flipped: bool = False
    heat: UInt8[np.ndarray, "h w 3"] | None = None
    sheets: tuple[UInt8[np.ndarray, "h w 3"], ...] = field(default=())


@dataclass(frozen=True, repr=False, eq=False)
class MatchReport:
    """What came of a match.

    Args:
        matches: in pixels of both images.
        names: of the points that were asked for; `matches.query` counts in them.
        transform: what was fitted; None unless matching is geometric.
        flipped: whether the matches are those of the mirrored source.
        model: identity of the features.
        folder: what was written, if anything.
        notes: sentences the user should read.
        seconds: wall-clock seconds by stage.
    """

    matches: Matches
    names: tuple[str, ...]
    transform: Transform | None
    flipped: bool
    model: str
    folder: MatchFolder | None
    notes: tuple[str, ...]
    seconds: dict[str, float]

    def facts(self) -> dict[str, Any]:
        """All of it as JSON values."""
        transform = self.transform
        inliers = None if transform is None else transform.inliers
        matrix = None if transform is None or transform.matrix is None else transform.matrix
        return {
            "model": self.model,
            "points": len(self.names),
            "flipped": self.flipped,
            "matrix": None if matrix is None else matrix.tolist(),
            "inliers": None if inliers is None else int(inliers.sum()),
            "matches": [
                {
                    "name": self.names[self.matches.query[row]],
                    "source": [round(float(v), 3) for v in self.matches.source_xy[row]],
                    "target": [round(float(v), 3) for v in self.matches.target_xy[row]],
                    "score": round(float(self.matches.scores[row]), 4),
                }
                | ({} if inliers is None else {"inlier": bool(inliers[row])})
                for row in range(len(self.matches))
            ],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }
