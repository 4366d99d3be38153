"""Text in, images and their Hyperfeatures out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from propagate.errors import InputError
from propagate.features.device import resolve_dtype
from propagate.features.hyper.synthetic import OPTIONS, TextToImage, create_hyper_generator
from propagate.features.stored import MapName, StoreDtype, compact
from propagate.output.feature_folder import write_map
from propagate.output.generation_folder import GenerationFolder
from propagate.output.record_folder import Mode
from propagate.progress import Progress, no_progress
from propagate.types import FeatureMap, Frame

_MOST = 100_000  # that five digits can name


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """Everything a user says about one generation.

    Args:
        output: folder to write.
        asked: the images.
        count: images of each prompt.
        model: name or folder of an aggregation.
        store_dtype: floating-point type of the stored features.
        raw: store maps as they come, instead of with L2 norm 1 in every cell.
        mode: what to do when `output` exists: "new", "overwrite" or "resume".

    Raises:
        InputError: a value is not allowed.
    """

    output: Path
    asked: TextToImage
    count: int = 1
    model: str = "hyperfeatures"
    store_dtype: StoreDtype = "fp16"
    raw: bool = False
    mode: Mode = "new"

    def __post_init__(self) -> None:
        if not 1 <= self.count * len(self.asked.prompts) <= _MOST:
            raise InputError(
                f"count is {self.count}; it must be 1 or more, and images {_MOST} at most."
            )
        if self.store_dtype not in get_args(StoreDtype):
            raise InputError(
                f"store_dtype is {self.store_dtype!r}; it must be one of "
                f"{', '.join(get_args(StoreDtype))}."
            )

    def config(self) -> dict[str, Any]:
        """What decides the images and their features."""
        asked = asdict(self.asked)
        options = {name: asked["options"][name] for name in OPTIONS}
        for name in ("offline", "batch_size", "memory"):
            del options[name]
        return {
            **{name: value for name, value in asked.items() if name != "options"},
            "model": self.model,
            "count": self.count,
            **options,
            "store_dtype": self.store_dtype,
            "raw": self.raw,
        }


@dataclass(frozen=True)
class GenerateReport:
    """What came of a generation.

    Args:
        path: the folder.
        images: the files, with the prompt of each.
        record: what `generate.json` says.
    """

    path: Path
    images: tuple[tuple[Path, str], ...]
    record: dict[str, Any]


def generate_images(
    request: GenerateRequest, *, progress: Progress[int] = no_progress
) -> GenerateReport:
    """Make images of text, with the aggregated maps of their generation as stored features.

    Holds one batch of images and maps, however many there are.

    Args:
        request: what to do.
        progress: wraps the steps of each batch: (title, number, steps) -> steps.

    Raises:
        PropagateError: before any long work where the inputs don't fit; in the midst of it when
            memory or disk are full.
    """
    config = request.config()
    folder = GenerationFolder(request.output, config, stored=config, mode=request.mode)
    generator = create_hyper_generator(request.model, request.asked)
    folder.check_same("extractor", generator.identity)
    prompts = [prompt for prompt in request.asked.prompts for _ in range(request.count)]
    missing = folder.missing(len(prompts))
    folder.prepare()
    folder.write_record("running", extractor=generator.identity)
    folder.features.save(generator.identity)
    for position, prompt in enumerate(request.asked.prompts):
        first = position * request.count
        numbers = [n for n in missing if first <= n < first + request.count]
        if not numbers:
            continue
        through = partial(_shown, progress, _title(prompt))
        for frame, features in generator.run(
            position, numbers, source=folder.clip, through=through
        ):
            _store(frame, features, folder, request)
    folder.features.finish(folder.clip, ())
    folder.features.save(generator.identity)
    made = tuple((folder.image(number), prompt) for number, prompt in enumerate(prompts))
    images = [{"file": path.name, "prompt": prompt} for path, prompt in made]
    record = folder.write_record("complete", extractor=generator.identity, images=images)
    return GenerateReport(folder.path, made, record)


def _store(
    frame: Frame, features: FeatureMap, folder: GenerationFolder, request: GenerateRequest
) -> None:
    """Write an image and its map; the image, which comes last, says that both are there."""
    dtype = resolve_dtype(request.store_dtype, torch.device("cpu"))
    item = compact(features, frame, dtype=dtype, raw=request.raw)
    maps = folder.features.maps_of(folder.clip)
    write_map(maps, frame, item, MapName.of(frame), advice="go on with --resume")
    folder.write_image(frame)


def _shown(progress: Progress[int], title: str, steps: range) -> Iterable[int]:
    return progress(title, len(steps), steps)


def _title(prompt: str) -> str:
    return prompt if len(prompt) <= 30 else f"{prompt[:29]}…"
