"""What is known of a model before any of it is loaded; light enough for `models list`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from propagate.config import ModelOptions, Task

if TYPE_CHECKING:
    from propagate.features.base import FeatureExtractor
    from propagate.features.hub import ResolvedModel


COMMON_OPTIONS = frozenset(
    (
        *("short_side", "input_size", "resizing", "seed"),
        *("device", "dtype", "compile", "batch_size", "memory"),
    )
)
"""The `ModelOptions` of every extractor that computes."""


class Repository(NamedTuple):
    """A hub repository at one revision: a commit, or a branch or tag."""

    repo_id: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision[:12]}"


class Download(NamedTuple):
    """One file that is published at an address of its own.

    Args:
        url: where.
        sha256: of its content, in hexadecimal.
    """

    url: str
    sha256: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Layout:
    """The files that are needed of a model.

    Args:
        files: paths below the model's folder, with forward slashes.
        variants: for every sub-folder with weights, the variant to load: None is the plain
            (fp32) file, "fp16" the half-precision one.
    """

    files: tuple[str, ...]
    variants: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """A model that has a name.

    Args:
        name: what the user types.
        aliases: other names of it.
        summary: one line for lists.
        licence: licence of the weights; empty when unknown.
        repositories: where the same weights are published, the first to try first; empty when
            they are installed with the program.
        download: one file published outside of the hub, instead of `repositories`.
        base: name of the model whose other parts are used, which is downloaded too.
        size_mb: size of the weights that are downloaded, in megabytes; 0 when unknown.
        stride: pixels of the network's input per grid cell, with the propagation knobs; 0 when
            unknown.
        knobs: the published or recommended options for each task.
        folder: a local folder or file with the weights, instead of `repositories`.
        inside: folder with the weights in this package; None where they come with a package that
            it depends on.
    """

    name: str
    aliases: tuple[str, ...] = ()
    summary: str = ""
    licence: str = ""
    repositories: tuple[Repository, ...] = ()
    download: Download | None = None
    base: str | None = None
    size_mb: int = 0
    stride: int = 0
    knobs: Mapping[Task, ModelOptions] = field(default_factory=dict)
    folder: Path | None = None
    inside: Path | None = None

    @property
    def ships(self) -> bool:
        """Whether the weights are installed with the program."""
        return not (self.repositories or self.download or self.folder)


@dataclass(frozen=True, kw_only=True)
class LayerInfo:
    """A place of a network that features can be taken from.

    Args:
        name: what to pass as `--layer`.
        channels: of its map.
        stride: pixels of the network's input per grid cell.
    """

    name: str
    channels: int
    stride: float


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models that one file of `propagate.features.families` can load.

    Args:
        name: of the family.
        cards: its models that have a name.
        options: the `ModelOptions` that are its own.
        common: those that it shares with others.
        matches: whether a folder or repository with these files is one of the family.
        select: the files to load, of those that are present; the second argument names the model
            in the error. Raises ModelError.
        load: makes the extractor. The options are complete: what the user set over the card's own.
        layers: what `--layer` can name, found without reading weights; None where layers are
            plain numbers that `options` explains.
        select_base: the files of a card's `base` that are needed; None takes the base's own.
        knobs: options for each task of models that have no card.
    """

    name: str
    cards: tuple[ModelCard, ...]
    options: frozenset[str]
    matches: Callable[[Collection[str]], bool]
    select: Callable[[Collection[str], str], Layout]
    load: Callable[[ModelCard, ResolvedModel, ModelOptions], FeatureExtractor]
    common: frozenset[str] = COMMON_OPTIONS
    layers: Callable[[ResolvedModel], list[LayerInfo]] | None = None
    select_base: Callable[[Collection[str], str], Layout] | None = None
    knobs: Mapping[Task, ModelOptions] = field(default_factory=dict)

    @property
    def known(self) -> frozenset[str]:
        """All options it understands."""
        return self.options | self.common

    def defaults(self, card: ModelCard, task: Task) -> ModelOptions:
        """The knobs of a task; those of propagation when there are none for it."""
        knobs = card.knobs or self.knobs
        return knobs.get(task, knobs.get("propagation", ModelOptions()))
