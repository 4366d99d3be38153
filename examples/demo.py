"""The demo: make a clip whose truth is known, label it with the `propagate` command, score it.

python examples/demo.py --output demo
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from motion import ACTORS
from synthetic_clip import SyntheticClip, add_clip_options, clip_from, write_clip

from propagate.labels.mask_files import read_mask
from propagate.metrics.sequence import SequenceScorer, SequenceScores


def main() -> None:
    parser = argparse.ArgumentParser(description="Label a synthetic clip and score the result.")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder [%(default)s]")
    add_clip_options(parser)
    options = parser.parse_args()
    clip = clip_from(options)
    folder: Path = options.output
    say(f"1. A synthetic clip with known truth: {len(clip)} frames, {clip.size}.")
    write_clip(clip, folder)
    say(f"   {folder / 'clip.mp4'}, its annotated frame {folder / 'first.png'}\n")
    say("2. The annotated frame carried through the clip by the command you would type:")
    run(folder)
    say("\n3. Scored against the truth, by the DAVIS protocol (in %):\n")
    say(table(clip, folder) + "\n")
    say(speed(clip, folder))
    say(f"\nLook at {folder / 'run' / 'overlay.mp4'} and {folder / 'run' / 'contact_sheet.png'}.")


def say(text: str) -> None:
    # Flushed, to stay in order with the output of the command.
    print(text, flush=True)


def run(folder: Path) -> None:
    """Run `propagate run`; leave with its exit code if it fails."""
    arguments = ["run", folder / "clip.mp4", folder / "first.png", "-o", folder / "run"]
    command = ["propagate", *map(str, arguments), "--overwrite"]
    say(f"   $ {' '.join(command)}")
    installed = shutil.which("propagate", path=str(Path(sys.executable).parent))
    program = [installed] if installed else [sys.executable, "-m", "propagate"]
    code = subprocess.run([*program, *command[1:]], check=False).returncode
    if code:
        sys.exit(code)


def table(clip: SyntheticClip, folder: Path) -> str:
    """J, F and their mean per object, beside what keeping the first mask would score."""
    result, floor = scores(clip, folder)
    j, f = result.jaccard.mean(axis=1), result.boundary_f.mean(axis=1)
    kept = (floor.jaccard + floor.boundary_f).mean(axis=1) / 2
    names = [actor.asset for actor in ACTORS]
    rows = [*zip(names, j, f, kept, strict=True), ("mean", j.mean(), f.mean(), kept.mean())]
    lines = [f"   {'object':12}{'J':>7}{'F':>7}{'J&F':>7}   first mask kept: J&F"]
    for name, *values in rows:
        j, f, kept = (100 * value for value in values)
        lines.append(f"   {name:12}{j:7.1f}{f:7.1f}{(j + f) / 2:7.1f}{kept:23.1f}")
    return "\n".join(lines)


def speed(clip: SyntheticClip, folder: Path) -> str:
    """Seconds per frame, and in all by stage, as recorded by the run."""
    record = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in record["seconds"].items())
    total = sum(record["seconds"].values())
    return f"   {total / len(clip):.2f} s per frame; in all {total:.1f} s: {stages}"


def scores(clip: SyntheticClip, folder: Path) -> tuple[SequenceScores, SequenceScores]:
    """Scores of the run and of its first mask kept for every frame, without first and last."""
    scorers = [SequenceScorer(clip.object_ids) for _ in range(2)]
    first = read_mask(folder / "first.png").ids
    truth, masks = (sorted((folder / part).glob("*.png")) for part in ("truth", "run/masks"))
    for true_path, mask_path in zip(truth, masks, strict=True):
        true = read_mask(true_path).ids
        scorers[0].add(read_mask(mask_path).ids, true)
        scorers[1].add(first, true)
    run_scores, floor = (scorer.scores().without_ends() for scorer in scorers)
    return run_scores, floor


if __name__ == "__main__":
    main()
