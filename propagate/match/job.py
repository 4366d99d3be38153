"""Two images in, matches out."""

from __future__ import annotations

from collections.abc import Callable

from propagate.match.by_features import find_by_features
from propagate.match.points import asked_points
from propagate.match.report import Found, MatchReport
from propagate.match.request import MatchRequest
from propagate.output.match_folder import MatchFolder
from propagate.output.match_picture import draw_matches
from propagate.pipeline import first_frame
from propagate.progress import Progress, no_progress
from propagate.stopwatch import Stopwatch
from propagate.types import Frame
from propagate.video import open_clip


def match_images(
    request: MatchRequest,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress[int] = no_progress,
) -> MatchReport:
    """Match the points of one image with another.

    Args:
        request: what to do.
        say: receives each note as soon as it is known.
        progress: told of each step of prompt-optimised matching, which takes long.

    Raises:
        PropagateError: before any long work, whenever the inputs don't fit.
    """
    clock = Stopwatch()
    source, target = (first_frame(open_clip(str(p))) for p in (request.source, request.target))
    names, xy, notes = asked_points(request, source, request.points)
    candidates = None
    if request.method == "geometric":
        candidates = asked_points(request, target, request.target_points)[1]
    folder = None
    if request.output is not None:
        folder = MatchFolder(request.output, request.config(), mode=request.mode)
    for note in notes:
        say(note)
    if request.method == "prompt":
        # Brings diffusers along, which takes seconds.
        from propagate.match.by_prompts import find_by_prompts

        found = find_by_prompts(request, source, target, xy, clock, say=say, progress=progress)
    else:
        found = find_by_features(request, source, target, xy, candidates, clock)
    if not len(found.matches) and len(xy):
        notes = (*notes, "No point has a match.")
        say(notes[-1])
    report = MatchReport(
        found.matches,
        names,
        found.transform,
        found.flipped,
        found.model,
        folder,
        notes,
        clock.seconds,
    )
    if folder is not None:
        _write(folder, report, found, source, target)
    return report


def _write(
    folder: MatchFolder, report: MatchReport, found: Found, source: Frame, target: Frame
) -> None:
    inliers = None if report.transform is None else report.transform.inliers
    folder.prepare()
    if report.names:
        folder.write_table(report.matches, report.names, inliers)
        drawn = draw_matches(source.rgb, target.rgb, report.matches, inliers=inliers)
        folder.write_picture(folder.picture, drawn)
    if found.heat is not None:
        folder.write_picture(folder.heatmap, found.heat)
    for number, sheet in enumerate(found.sheets, start=1):
        folder.write_picture(folder.sheet(number), sheet)
    folder.write_record("complete", **report.facts())
