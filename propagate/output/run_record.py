"""`run.json` of a run, as those that look at its labels need it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from propagate.errors import LabelError
from propagate.labels.json_files import Node, read_json
from propagate.labels.keypoint_formats.base import Edge
from propagate.video.ranges import FrameRange

RUN_RECORD = "run.json"


@dataclass(frozen=True)
class RunRecord:
    """What made a run.

    Args:
        path: folder of the run.
        clip: path of the clip, as it was.
        frames: range of the clip, or None for all of it.
        reader: what read it.
        void: mask id of unknown pixels, "auto" or None.
        references: indices of the frames whose labels the user gave.
        edges: of the skeleton.
        model: identity of the features.
        settings: of the run by dotted name.
        finished: whether it is complete.
    """

    path: Path
    clip: str
    frames: str | None = None
    reader: str = "auto"
    void: Any = "auto"
    references: tuple[int, ...] = ()
    edges: tuple[Edge, ...] = ()
    model: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    finished: bool = True

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read the record of a run folder.

        Raises:
            LabelError: it is no record of a run, or damaged.
        """
        root = read_json(folder / RUN_RECORD)
        config = root["config"]
        frames = config.get("frames").value
        pairs = root.get("skeleton")
        return cls(
            path=folder,
            clip=config["clip"].text(),
            frames=frames,
            reader=config.get("reader").value or "auto",
            void=_void(config),
            references=_references(config, frames),
            edges=tuple(_edge(pair.as_(list), folder) for pair in pairs.items())
            if pairs.value
            else (),
            model=root.get("model").text(),
            settings=dict(_settings(config.as_(dict))),
            finished=root.get("status").value == "complete",
        )


def is_run(path: Path) -> bool:
    """Whether a folder holds a run of this program."""
    return (path / RUN_RECORD).is_file()


def _references(config: Node, frames: str | None) -> tuple[int, ...]:
    listed = config.get("references")
    if listed.value is None:
        # Runs with one mask only had it at the first frame.
        return ((FrameRange() if frames is None else FrameRange.parse(frames)).start,)
    return tuple(sorted({entry["frame"].as_(int) for entry in listed.items()}))


def _void(config: Node) -> Any:
    """What runs say about unknown pixels; earlier ones said it beside the clip."""
    reading = config.get("reading")
    where = config if reading.value is None else reading
    return where.as_(dict).get("void", "auto")


def _edge(pair: list[Any], folder: Path) -> Edge:
    if len(pair) != 2:
        raise LabelError(f"{folder / RUN_RECORD} has a bone that joins {len(pair)} points, not 2.")
    return str(pair[0]), str(pair[1])


# Facts that a summary shows elsewhere or that say nothing about the labels.
_LEFT_OUT = ("clip", "mask", "mask_sha256", "frames", "reader", "references", "model")


def _settings(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings that are not empty, as dotted names and texts."""
    for name, value in values.items():
        if not prefix and name in _LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        elif value not in (None, False, [], ""):
            yield prefix + name, str(value)
