"""Feature maps on disk: their format, and the extractor that reads them instead of computing.

A folder of stored features holds `features.json`, which says what made them, and one file per map,
`maps/CLIP/INDEX-FINGERPRINT.safetensors`. The names of the files are the index, so nothing that
grows with a clip is ever written again, and each map is there as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from propagate.errors import InputError, ModelError
from propagate.types import FeatureMap, Frame, Size

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, UInt8
    from torch import Tensor

StoreDtype = Literal["fp16", "bf16", "fp32"]

FORMAT = 1
RECORD = "features.json"
MAPS = "maps"

_MAP_NAME = re.compile(r"(\d{6,})-([0-9a-f]{32})\.safetensors", re.ASCII)
_FOLDER_NAME = re.compile(r"\w[\w.-]*")


def fingerprint(rgb: UInt8[np.ndarray, "h w 3"]) -> str:
    """32 hexadecimal digits that tell a picture from every other: BLAKE2b of size and pixels."""
    digest = hashlib.blake2b(f"{rgb.shape[1]}x{rgb.shape[0]}".encode(), digest_size=16)
    digest.update(rgb.tobytes())
    return digest.hexdigest()


class MapName(NamedTuple):
    """What a stored map is found by: the index of the frame, and its picture's fingerprint."""

    frame: int
    picture: str

    @classmethod
    def of(cls, frame: Frame) -> MapName:
        """The name of a frame's map."""
        return cls(frame.index, fingerprint(frame.rgb))

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.frame:06d}-{self.picture}.safetensors"


def list_maps(folder: Path) -> list[MapName]:
    """The maps in the folder of one clip, in the clip's order; none if there is no such folder."""
    found = (_MAP_NAME.fullmatch(path.name) for path in folder.glob("*.safetensors"))
    return sorted(MapName(int(match[1]), match[2]) for match in found if match)


@dataclass(frozen=True, kw_only=True)
class StoredClip:
    """A clip with stored features, as `features.json` has it.

    Args:
        folder: name of its folder below `maps/`.
        path: absolute path of the clip.
        source: identity of the clip, as its frames carry it.
        complete: whether all frames that were asked for are stored.
        maps: number of maps when they were complete.
        notes: what could not be decoded.
    """

    folder: str
    path: str
    source: str
    complete: bool = False
    maps: int = 0
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not _FOLDER_NAME.fullmatch(self.folder):
            raise InputError(f"{self.folder!r} is no name of a folder of stored maps.")


@dataclass(frozen=True, kw_only=True)
class FeatureRecord:
    """What `features.json` says.

    Args:
        extractor: identity of what made the maps.
        config: what was asked for by name: model, task, store_dtype, raw, and the model options.
        clips: the clips, in the order they were stored.
    """

    extractor: str
    config: Mapping[str, Any]
    clips: tuple[StoredClip, ...]


def read_record(folder: Path) -> FeatureRecord:
    """Read `features.json`.

    Raises:
        ModelError: it is damaged, or of a format that this version doesn't know.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ModelError(
                f"{path} has format {record['format']} and this program reads format {FORMAT}; "
                "update the program, or extract the features again with --overwrite."
            )
        return FeatureRecord(
            extractor=str(record["extractor"]),
            config=dict(record["config"]),
            clips=tuple(StoredClip(**clip) for clip in record["clips"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is no record of stored features, or damaged ({error}); extract them again "
            "with `propagate extract ... --overwrite`."
        ) from error


def compact(features: FeatureMap, frame: Frame, *, dtype: torch.dtype, raw: bool) -> FeatureMap:
    """A map as it is stored: unit-norm unless `raw`, as `dtype`.

    Raises:
        ModelError: it has values that are not finite.
        InputError: a raw map has values that `dtype` can't hold.
    """
    if not torch.isfinite(features.data).all():
        raise ModelError(
            f"The features of frame {frame.index} of {frame.source} are not finite; compute them "
            "with --dtype fp32."
        )
    if not raw:
        return features.normalised(dtype)
    data = features.data.to(dtype)
    if not torch.isfinite(data).all():
        raise InputError(
            f"The raw features of frame {frame.index} of {frame.source} reach "
            f"{features.data.abs().max().item():.3g}, which is too much for the type they are "
            "stored in; use --store-dtype bf16 or fp32, or leave out --raw."
        )
    return FeatureMap(data, features.image_size, features.input_size, unit=features.unit)


def pack_map(features: FeatureMap, frame: Frame, name: MapName) -> bytes:
    """The content of a map's file: tensor "cells" [gh, gw, c], and JSON in the metadata "map"."""
    cells = features.data.permute(1, 2, 0).contiguous().cpu()
    facts = {
        "frame": name.frame,
        "name": frame.name,
        "fingerprint": name.picture,
        "image_size": list(features.image_size),
        "input_size": list(features.input_size),
        "unit": features.unit,
        "crc32": _checksum(cells),
    }
    # One entry, as safetensors writes several in an order that changes from run to run.
    content: bytes = save({"cells": cells}, metadata={"map": json.dumps(facts)})
    return content


def read_map(path: Path, name: MapName) -> FeatureMap:
    """Read a file made by `pack_map`; the map lies channels last, in the type it was stored in.

    Raises:
        ModelError: the file is damaged, or the map of another frame.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["map"])
            cells = file.get_tensor("cells")
        if (facts["frame"], facts["fingerprint"]) != name:
            raise InputError("it was written for another picture")
        if facts["crc32"] != _checksum(cells):
            raise InputError("its checksum is wrong")
        sizes = (Size(*facts["image_size"]), Size(*facts["input_size"]))
        return FeatureMap(cells.permute(2, 0, 1), *sizes, unit=bool(facts["unit"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{path} is damaged ({error}); delete it and run the command that made it "
            "again with --resume."
        ) from error


def _checksum(cells: Float[Tensor, "gh gw c"]) -> int:
    return zlib.crc32(cells.flatten().view(torch.uint8).numpy().data)


class _Place(NamedTuple):
    clip: StoredClip
    name: MapName


class StoredExtractor:
    """Looks maps up on disk by the pixels of the frame.

    Of several maps of one picture, the clip's own is taken, then the one of the frame's index:
    the noise of a diffusion model depends on it.

    Args:
        folder: what `propagate extract` wrote.
        device: where the maps go.

    Raises:
        ModelError: `features.json` is damaged.
    """

    # As many as a model that these maps are fused with may want to compute at once.
    batch_size = 4

    def __init__(self, folder: Path, *, device: torch.device | str = "cpu") -> None:
        self._folder = folder
        self._device = torch.device(device)
        self._record = read_record(folder)
        self._places: dict[str, list[_Place]] = {}
        for clip in self._record.clips:
            for name in list_maps(folder / MAPS / clip.folder):
                self._places.setdefault(name.picture, []).append(_Place(clip, name))

    @property
    def identity(self) -> str:
        """That of the extractor that made the maps, and the type they are stored in."""
        config = self._record.config
        kind = f"{config.get('store_dtype')}{' raw' if config.get('raw') else ''}"
        return f"stored {kind} ({self._record.extractor})"

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Stored maps of `frames`, in order, on the device, in the type they are stored in.

        Raises:
            InputError: a frame has no stored map.
            ModelError: a file is damaged.
        """
        return [self._extract_one(frame) for frame in frames]

    def _extract_one(self, frame: Frame) -> FeatureMap:
        place = self._find(frame)
        item = read_map(self._folder / MAPS / place.clip.folder / place.name.file, place.name)
        data = item.data.to(self._device)
        return FeatureMap(data, item.image_size, item.input_size, unit=item.unit)

    def _find(self, frame: Frame) -> _Place:
        places = self._places.get(fingerprint(frame.rgb), [])
        if not places:
            raise InputError(
                f"Frame {frame.index} ({frame.name}) of {frame.source} has no stored features in "
                f"{self._folder}; store them with `propagate extract CLIP -o {self._folder} "
                "--resume`, with the clip that is read here and a --frames that covers it."
            )
        own = [place for place in places if place.clip.source == frame.source] or places
        folders = sorted({place.clip.folder for place in own})
        if len(folders) > 1 and self._record.config.get("pca") is not None:
            raise InputError(
                f"Frame {frame.index} of {frame.source} is also in the clips {', '.join(folders)} "
                f"of {self._folder}, each with principal components of its own; extract each clip "
                "into a folder of its own."
            )
        return next((place for place in own if place.name.frame == frame.index), own[0])
