"""Two images in, matches out: the same parts of two things, or the same points of one scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from propagate.config import EMBEDDED_MODEL, ModelOptions
from propagate.errors import InputError
from propagate.features.base import FeatureExtractor, FittedExtractor
from propagate.features.registry import create_extractor
from propagate.labels.keypoint_checks import load_reference_keypoints
from propagate.matching.detectors import SUPERPOINT, Detector, detect
from propagate.matching.geometric import (
    GeometricSettings,
    Transform,
    fit_transform,
    match_keypoints,
)
from propagate.matching.semantic import (
    SemanticSettings,
    match_either_way,
    match_points,
    similarity_map,
)
from propagate.output.match_folder import MatchFolder
from propagate.output.match_picture import draw_matches, draw_similarity
from propagate.output.record_folder import Mode
from propagate.pipeline import first_frame
from propagate.stopwatch import Stopwatch
from propagate.types import FeatureMap, Frame, Matches
from propagate.video import open_clip

if TYPE_CHECKING:
    from jaxtyping import Float64

Method = Literal["semantic", "geometric"]

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
            of both images and fits a transform.
        output: folder to write; None writes nothing.
        mode: what to do when `output` exists.
        model: name or path for the registry; its defaults for the method's task are taken.
        options: model options.
        semantic: settings of the semantic matcher.
        geometric: settings of the geometric one.
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
        if self.flip and geometric:
            raise InputError("--flip is for --method semantic; leave one of them out.")
        if self.mode in ("resume", "correct"):
            raise InputError("A match can't be resumed; it is short, so start over.")

    def config(self) -> dict[str, Any]:
        """What decides the matches, JSON values only."""
        fields = asdict(self)
        for name in ("output", "mode", "semantic" if self.method == "geometric" else "geometric"):
            del fields[name]
        for name in ("source", "target", "points", "target_points"):
            fields[name] = None if fields[name] is None else str(fields[name].absolute())
        return fields


@dataclass(frozen=True, repr=False, eq=False)
class MatchReport:
    """What came of a match.

    Args:
        matches: in pixels of both images.
        names: of the points that were asked for; `matches.query` counts in them.
        transform: what was fitted; None for semantic matching.
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


def match_images(
    request: MatchRequest, *, say: Callable[[str], None] = lambda _: None
) -> MatchReport:
    """Match the points of one image with another.

    Args:
        request: what to do.
        say: receives each note as soon as it is known.

    Raises:
        PropagateError: before any long work, whenever the inputs don't fit.
    """
    clock = Stopwatch()
    source, target = (first_frame(open_clip(str(p))) for p in (request.source, request.target))
    names, xy, notes = _points(request, source, request.points)
    candidates = _points(request, target, request.target_points)[1] if _geometric(request) else None
    folder = None
    if request.output is not None:
        folder = MatchFolder(request.output, request.config(), mode=request.mode)
    for note in notes:
        say(note)
    with clock.measure("load model"):
        extractor = create_extractor(request.model, request.options, task=request.method)
    with clock.measure("features"):
        maps = _extract(extractor, source, target)
        mirrored = _mirrored(extractor, source) if request.flip else None
    with clock.measure("match"):
        matches, transform, flipped = _match(request, maps, mirrored, xy, candidates)
    if not len(matches) and len(xy):
        notes = (*notes, "No point has a match.")
        say(notes[-1])
    report = MatchReport(
        matches, names, transform, flipped, extractor.identity, folder, notes, clock.seconds
    )
    if folder is not None:
        _write(request, folder, report, source, target, maps)
    return report


def _geometric(request: MatchRequest) -> bool:
    return request.method == "geometric"


def _points(
    request: MatchRequest, frame: Frame, path: Path | None
) -> tuple[tuple[str, ...], Float64[np.ndarray, "n 2"], tuple[str, ...]]:
    """Names, places in pixels, and notes."""
    if path is not None:
        loaded = load_reference_keypoints(path, frame=frame)
        points = loaded.keypoints
        rows = np.flatnonzero(points.visible)
        names = tuple(str(points.names[row]) for row in rows)
        return names, points.xy[rows].astype(np.float64), loaded.notes
    if request.keypoints is not None:
        xy = detect(
            frame.rgb,
            request.keypoints,
            count=request.count,
            weights=request.keypoint_weights,
            device=request.options.device,
            offline=request.options.offline,
        )
        if not len(xy):
            raise InputError(
                f"{request.keypoints} finds no keypoint in {frame.name!r}; take another detector "
                "or --grid."
            )
    elif request.grid is not None:
        xy = _grid(frame, request.grid)
    else:
        xy = np.zeros((0, 2))
    return tuple(str(number) for number in range(len(xy))), xy, ()


def _grid(frame: Frame, count: int) -> Float64[np.ndarray, "n 2"]:
    """Centres of equal, nearly square fields."""
    longer = max(frame.size)
    rows, columns = (max(round(count * side / longer), 1) for side in frame.size)
    x, y = (
        (np.arange(n) + 0.5) * side / n
        for n, side in ((columns, frame.size.width), (rows, frame.size.height))
    )
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _extract(
    extractor: FeatureExtractor, source: Frame, target: Frame
) -> tuple[FeatureMap, FeatureMap]:
    if isinstance(extractor, FittedExtractor):
        extractor.fit([source, target])
    return extractor.extract([source])[0], extractor.extract([target])[0]


def _mirrored(extractor: FeatureExtractor, source: Frame) -> FeatureMap:
    frame = replace(
        source,
        rgb=np.ascontiguousarray(source.rgb[:, ::-1]),
        source=f"{source.source} mirrored",
    )
    return extractor.extract([frame])[0]


def _match(
    request: MatchRequest,
    maps: tuple[FeatureMap, FeatureMap],
    mirrored: FeatureMap | None,
    xy: Float64[np.ndarray, "n 2"],
    candidates: Float64[np.ndarray, "m 2"] | None,
) -> tuple[Matches, Transform | None, bool]:
    source, target = maps
    if candidates is not None:
        matches = match_keypoints(source, target, xy, candidates, request.geometric)
        transform = fit_transform(matches.source_xy, matches.target_xy, request.geometric)
        return matches, transform, False
    if mirrored is not None and len(xy):
        matches, flipped = match_either_way(source, mirrored, target, xy, request.semantic)
        return matches, None, flipped
    return match_points(source, target, xy, request.semantic), None, False


def _write(
    request: MatchRequest,
    folder: MatchFolder,
    report: MatchReport,
    source: Frame,
    target: Frame,
    maps: tuple[FeatureMap, FeatureMap],
) -> None:
    inliers = None if report.transform is None else report.transform.inliers
    heat = None
    if request.heatmap is not None:
        xy = np.array(request.heatmap, dtype=np.float64)
        heat = draw_similarity(
            source.rgb, target.rgb, xy, similarity_map(*maps, xy, request.semantic)
        )
    folder.prepare()
    if report.names:
        folder.write_table(report.matches, report.names, inliers)
        drawn = draw_matches(source.rgb, target.rgb, report.matches, inliers=inliers)
        folder.write_picture(folder.picture, drawn)
    if heat is not None:
        folder.write_picture(folder.heatmap, heat)
    folder.write_record("complete", **report.facts())
