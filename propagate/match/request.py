"""Everything a user says about one match."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from propagate.config import EMBEDDED_MODEL, ModelOptions
from propagate.errors import InputError
from propagate.matching.detectors import SUPERPOINT, Detector
from propagate.matching.geometric import GeometricSettings
from propagate.matching.prompt.settings import CORRECTED, PromptSettings
from propagate.matching.semantic import SemanticSettings
from propagate.output.record_folder import Mode

Method = Literal["semantic", "geometric", "prompt"]

_MOST_GRID = 200


@dataclass(frozen=True, kw_only=True)
class MatchRequest:
    """Everything a user says about one match.

    Args:
        source: image with the points; of a clip the first frame is taken.
        target: image to find them in.
        points: keypoint file with the points of the source.
        target_points: keypoint file with the candidates in the target; geometric matching needs it
            beside `points`.
        grid: number of points along the longer side of the source, at equal distances.
        keypoints: detector that finds the points. Exactly one of `points`, `grid` and this is
            given, or none where only a heat map is wanted.
        count: the most points of the detector.
        keypoint_weights: name, folder or hub repository of the weights of SuperPoint.
        heatmap: a point (x, y) of the source, whose similarity with all of the target is drawn.
        method: "semantic" looks for each point everywhere in the target; "geometric" pairs points
            of both images and fits a transform; "prompt" optimises a text condition until its
            attention peaks at a point, and reads it in the target.
        output: folder to write; None writes nothing.
        mode: what to do when `output` exists.
        model: name or path for the registry; its defaults for the method's task are taken. With
            "prompt" it is Stable Diffusion 1 or 2.
        options: model options.
        semantic: settings of the semantic matcher.
        geometric: settings of the geometric one.
        prompt: settings of prompt-optimised matching.
        flip: whether to match the mirrored source too and keep the better of both; semantic only.

    Raises:
        InputError: the values don't go together.
    """

    source: Path
    target: Path
    points: Path | None = None
    target_points: Path | None = None
    grid: int | None = None
    keypoints: Detector | None = None
    count: int = 1000
    keypoint_weights: str = SUPERPOINT
    heatmap: tuple[float, float] | None = None
    method: Method = "semantic"
    output: Path | None = None
    mode: Mode = "new"
    model: str = EMBEDDED_MODEL
    options: ModelOptions = field(default_factory=ModelOptions)
    semantic: SemanticSettings = field(default_factory=SemanticSettings)
    geometric: GeometricSettings = field(default_factory=GeometricSettings)
    prompt: PromptSettings = CORRECTED
    flip: bool = False

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(
                f"method is {self.method!r}; it must be one of {', '.join(get_args(Method))}."
            )
        ways = [value for value in (self.points, self.grid, self.keypoints) if value is not None]
        if len(ways) > 1:
            raise InputError(
                "--points, --grid and --keypoints say in three ways which points to match; give "
                "one of them."
            )
        if not ways and self.heatmap is None:
            raise InputError(
                "No point to match; give a keypoint file (--points), a number along the longer "
                "side (--grid) or a detector (--keypoints)."
            )
        if self.grid is not None and not 1 <= self.grid <= _MOST_GRID:
            raise InputError(f"--grid is {self.grid}; it must be 1 to {_MOST_GRID}.")
        if self.keypoint_weights != SUPERPOINT and self.keypoints != "superpoint":
            raise InputError("--keypoint-weights goes with --keypoints superpoint only.")
        if self.heatmap is not None and self.output is None:
            raise InputError("--heatmap draws a picture; name a folder for it with -o.")
        self._check_method()

    def _check_method(self) -> None:
        geometric = self.method == "geometric"
        if self.points is not None and geometric and self.target_points is None:
            raise InputError(
                "Geometric matching pairs points of both images: give those of the second one as "
                "--target-points, or take --method semantic, which looks everywhere."
            )
        if self.target_points is not None and (self.points is None or not geometric):
            raise InputError("--target-points goes with --points and --method geometric only.")
        if self.flip and self.method != "semantic":
            raise InputError("--flip is for --method semantic; leave one of them out.")
        if self.mode in ("resume", "correct"):
            raise InputError("A match can't be resumed; it is short, so start over.")

    def config(self) -> dict[str, Any]:
        """What decides the matches, JSON values only."""
        fields = asdict(self)
        others = [name for name in get_args(Method) if name != self.method]
        for name in ("output", "mode", *others):
            del fields[name]
        for name in ("source", "target", "points", "target_points"):
            fields[name] = None if fields[name] is None else str(fields[name].absolute())
        return fields
