"""The Python interface, step by step: `python examples/api.py CLIP MASK OUTPUT_FOLDER`."""

# %% A clip is any video file, image folder or glob. Frames are decoded as they are asked for.
import sys
from pathlib import Path

import propagate

clip_path, mask_path, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
reader = propagate.open_clip(clip_path)
first = next(iter(reader))
print(first)

# %% The mask of the first frame: checked against it, with notes on what looks odd.
reference = propagate.load_reference_mask(mask_path, frame_size=first.size)
for note in reference.notes:
    print(note)
print(reference.masks)

# %% A preset holds a model and settings that belong together, the ones that the command uses.
preset = propagate.preset("default")
extractor = propagate.create_extractor(preset.model, preset.options)
print(preset.video)
print(extractor.extract([first])[0])

# %% Results stream: a mask per frame, in memory that does not grow with the clip.
propagator = propagate.VideoPropagator(
    reader, reference.masks, extractor=extractor, settings=preset.video
)
output.mkdir(parents=True, exist_ok=True)
for result in propagator:
    path = output / f"{result.frame.name}.png"
    propagate.write_mask(path, result.masks.ids)
    areas = {i: int((result.masks.ids == i).sum()) for i in result.masks.object_ids}
    print(f"{path.name}: pixels of each object {areas}")
