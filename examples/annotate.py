"""Annotate, look, correct: `python examples/annotate.py OUTPUT_FOLDER`, or cell by cell.

The person who annotates is played by the synthetic clip, whose true masks are known.
"""

# %% A clip. Any video file, image folder or glob would do; this one can be scored.
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from synthetic_clip import SyntheticClip

import propagate

output = Path(sys.argv[1])
frames, height, width = (int(text) for text in (*sys.argv[2:5], 40, 270, 480)[:3])
truth = {}
(output / "clip").mkdir(parents=True, exist_ok=True)
for index, (rgb, ids) in enumerate(SyntheticClip(frames, (height, width), seed=3)):
    Image.fromarray(rgb).save(output / f"clip/{index:05d}.png")
    truth[index] = ids

# %% One frame is annotated. References are masks, keypoints, or files of either.
session = propagate.Session(output / "clip")
session.add_reference(0, truth[0])


# %% Results stream, frame by frame, with a confidence for every object.
def score(ids: np.ndarray, true: np.ndarray) -> float:
    """Mean J of the objects that are there."""
    present = [i for i in np.unique(true) if i]
    overlaps = [
        ((ids == i) & (true == i)).sum() / ((ids == i) | (true == i)).sum() for i in present
    ]
    return float(np.mean(overlaps))


def look() -> list[float]:
    """Label the clip; returns the error expected in each frame."""
    errors, scores = [], []
    for result in session:
        known = result.confidence.values()
        errors.append(1 - float(np.mean([item.confidence for item in known])))
        scores.append(score(result.masks.ids, truth[result.frame.index]))
    given = ", ".join(str(index) for index in session.references.indices)
    print(f"annotated: {given}; expected error {np.mean(errors):.3f}, mean J {np.mean(scores):.3f}")
    return errors


errors = look()

# %% Where would another annotation help most? Features are kept, so the second time is quick.
for _ in range(2):
    position, gain = propagate.choose_frames(errors, session.references.indices, 1)[0]
    print(f"annotate frame {position}: removes {gain:.0%} of the expected error")
    session.add_reference(position, truth[position])
    errors = look()

# %% Save all of it: masks, tracks.csv, overlay, what `propagate correct` and `review` need.
report = session.save(output / "run", mode="overwrite" if (output / "run").exists() else "new")
print(f"{report.frames} frames: {report.folder.path}")
session.close()
