"""Folders of masks that any program wrote, against true ones."""

from __future__ import annotations

from pathlib import Path

from propagate.benchmarks.davis import true_ids
from propagate.benchmarks.mask_scores import ObjectScore, read_predictions, score_masks
from propagate.errors import InputError


def score_folders(pred: Path, truth: Path, *, one_object: bool) -> list[ObjectScore]:
    """Scores of all objects of all clips in `pred`.

    Args:
        pred: a folder of PNGs per clip, or the PNGs of one clip.
        truth: true masks in the same layout; more clips don't matter.
        one_object: whether all that is not background is one object.

    Raises:
        InputError: a folder or a file is missing, or sizes differ.
    """
    for folder in (pred, truth):
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; name one with masks.")
    clips = [""] if _masks(pred) else sorted(path.name for path in pred.iterdir() if _masks(path))
    if not clips:
        raise InputError(f"{pred} has no PNG, nor a folder with any; name a folder of masks.")
    return [score for clip in clips for score in _score(pred / clip, truth / clip, one_object)]


def _score(pred: Path, truth: Path, one_object: bool) -> list[ObjectScore]:
    paths = _masks(truth)
    if not paths:
        raise InputError(
            f"{truth} has no true masks for {pred}; name folders of the same layout with --gt and "
            "--pred."
        )
    names = [path.name for path in paths]
    true = (true_ids(path, one_object=one_object) for path in paths)
    found = (
        (ids > 0).astype(ids.dtype) if one_object else ids for ids in read_predictions(pred, names)
    )
    return score_masks(pred.name, true, found) or []


def _masks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png")) if folder.is_dir() else []
