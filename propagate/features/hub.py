"""Finds the weights behind a model: a local folder or file, the hub's cache, or the hub itself."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from propagate.errors import ModelError
from propagate.features.card import Download, Layout, Repository
from propagate.features.layout import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    Select = Callable[[Collection[str], str], Layout]

_TIMEOUT = 15  # seconds, for the first contact with the hub
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class ResolvedModel:
    """Weights that lie on this machine, complete.

    Args:
        folder: the model's folder.
        layout: its files.
        repository: where it came from, at the commit it is; None for a folder of the user's.
        sha256: of its only file, where that was published with one.
        base: another model whose other parts are used.
        installed: name of a model that is installed with the program.
    """

    folder: Path
    layout: Layout
    repository: Repository | None = None
    sha256: str | None = None
    base: ResolvedModel | None = None
    installed: str | None = None

    @property
    def path(self) -> Path:
        """The folder, or the file where there is only one."""
        only = len(self.layout.files) == 1 and self.repository is None
        return self.folder / self.layout.files[0] if only else self.folder

    @property
    def name(self) -> str:
        """What to call the weights in a message."""
        if self.installed is not None:
            return self.installed
        return str(self.path) if self.repository is None else str(self.repository)

    @property
    def identity(self) -> str:
        """Tells these weights from any others: commit, checksum, or size and time of each file."""
        if self.installed is not None:
            return f"{self.installed}@{self.content()}"
        base = "" if self.base is None else f" on {self.base.identity}"
        if self.sha256 is not None:
            return f"{self.path.name.partition('-')[2]}@{self.sha256[:12]}{base}"
        if self.repository is None:
            return f"{self.folder.resolve()}#{self.fingerprint()}{base}"
        half = sorted(sub for sub, variant in self.layout.variants.items() if variant)
        return f"{self.name}{'+'.join(['', *(f'fp16-{sub}' for sub in half)])}{base}"

    def content(self) -> str:
        """Twelve digits that change with what is in any of the files."""
        hashes = (
            hashlib.sha256((self.folder / name).read_bytes()).digest() for name in self.layout.files
        )
        return hashlib.sha256(b"".join(hashes)).hexdigest()[:12]

    def fingerprint(self) -> str:
        """Twelve digits that change with the name, size or time of any of the files."""
        stats = [(name, (self.folder / name).stat()) for name in self.layout.files]
        text = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def repository_of(model: str) -> Repository | None:
    """The repository written as `owner/name` or `owner/name@revision`, or None."""
    match = re.fullmatch(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?", model, re.ASCII)
    return None if match is None else Repository(match[1], match[2] or "main")


def local(path: Path, select: Select) -> ResolvedModel:
    """The model in a folder of the user's, or in one file.

    Raises:
        ModelError: it is not a complete model.
    """
    folder, present = (path.parent, [path.name]) if path.is_file() else (path, scan(path))
    return ResolvedModel(folder, select(present, str(path)))


def installed(name: str, folder: Path, select: Select) -> ResolvedModel:
    """The model `name`, which is installed with the program in `folder`.

    Raises:
        ModelError: the installation is not complete.
    """
    return replace(local(folder, select), installed=name)


def resolve(
    model: str, repositories: tuple[Repository, ...], select: Select, *, offline: bool = False
) -> ResolvedModel:
    """Find published weights, downloading them where that is allowed and needed.

    The local cache of the hub is asked first, for every mirror, so that nothing is downloaded
    twice; then the mirrors are tried in order.

    Args:
        model: what the user calls it.
        repositories: where the weights are, the first to try first.
        select: the files to load.
        offline: never use the network.

    Raises:
        ModelError: wrong layout, or not to be had; names each place tried.
    """
    cached = find_cached(repositories, select)
    if cached is not None:
        return cached
    if offline:
        tried = ", ".join(map(str, repositories))
        raise ModelError(
            f"Model {model!r} is not in the local cache of the hub (looked for {tried}) and "
            f"offline mode is on; run `propagate models download {model}` where there is a "
            "network, or give the folder that holds the model."
        )
    return _download_first(model, repositories, select)


def find_cached(repositories: tuple[Repository, ...], select: Select) -> ResolvedModel | None:
    """The first complete copy in the local cache of the hub, or None."""
    for repository in repositories:
        folder = cached_folder(repository)
        if folder is None:
            continue
        try:
            return _in_cache(folder, repository, select)
        except ModelError:
            continue  # a download that was cut off, or somebody else's partial one
    return None


def cached_folder(repository: Repository) -> Path | None:
    """The folder of a repository's revision in the cache, complete or not."""
    # Imported late, as everywhere here: `models list` must not load an HTTP client.
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not Path(constants.HF_HUB_CACHE).is_dir():
        return None
    try:
        folder = snapshot_download(
            repository.repo_id, revision=repository.revision, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return Path(folder)


def private_path(name: str) -> Path:
    """Where a file that the hub's cache has no place for is kept: in a folder beside it."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HOME) / "propagate"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def fetch_file(model: str, source: Download, *, offline: bool = False) -> ResolvedModel:
    """One published file, downloaded once and compared with its checksum.

    Raises:
        ModelError: it is not here and can't be downloaded, or what came is something else.
    """
    path = private_path(f"{source.sha256[:12]}-{source.url.rsplit('/', 1)[-1]}")
    if not path.exists():
        if offline:
            raise ModelError(
                f"Model {model!r} is not on this machine (looked for {path}) and offline mode is "
                f"on; run `propagate models download {model}` where there is a network, or give "
                "the path of the file as the model."
            )
        _download_file(model, source, path)
    return ResolvedModel(path.parent, Layout((path.name,)), sha256=source.sha256)


def _download_file(model: str, source: Download, path: Path) -> None:
    from torch.hub import download_url_to_file

    try:
        download_url_to_file(source.url, str(path), hash_prefix=source.sha256, progress=False)
    except Exception as error:  # urllib's, the file system's, or the checksum's own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"Model {model!r} could not be downloaded from {source.url} ({first}); download it "
            "otherwise and give the path of the file as the model."
        ) from error


def verify(model: ResolvedModel) -> None:
    """Compare downloaded files with the checksums that they were published with.

    Raises:
        ModelError: naming the file that differs.
    """
    for name in model.layout.files:
        path = (model.folder / name).resolve()
        # The cache links to blobs called after their SHA-256 (large files) or git's hash (small).
        expected = model.sha256 or path.name
        if not _SHA256.fullmatch(expected):
            continue
        found = _sha256(path)
        if found != expected:
            raise ModelError(
                f"{model.folder / name} is damaged: its SHA-256 is {found[:12]}... and should be "
                f"{expected[:12]}...; delete {path} and download it again."
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _in_cache(folder: Path, repository: Repository, select: Select) -> ResolvedModel:
    # The cache names a snapshot's folder after its commit, so a branch becomes exact here.
    exact = Repository(repository.repo_id, folder.name)
    return ResolvedModel(folder, select(scan(folder), str(exact)), exact)


def _download_first(
    model: str, repositories: tuple[Repository, ...], select: Select
) -> ResolvedModel:
    reasons = []
    for repository in repositories:
        try:
            return _download(repository, select)
        except ModelError as error:  # noqa: PERF203, each mirror may fail for its own reason
            reasons.append(str(error).rstrip("."))
    raise ModelError(
        f"Model {model!r} could not be downloaded: {'; '.join(reasons)}; run `propagate models "
        f"download {model}` when that is settled, or give the folder that holds the model."
    )


def _download(repository: Repository, select: Select) -> ResolvedModel:
    from huggingface_hub import HfApi, snapshot_download

    repo_id, revision = repository
    try:
        # `list_repo_files` would do, but without a network it tries again for half a minute.
        info = HfApi().model_info(repo_id, revision=revision, timeout=_TIMEOUT, files_metadata=True)
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
        files = list(select(list(sizes), str(repository)).files)
        _check_space(repository, sum(sizes[name] for name in files))
        folder = snapshot_download(repo_id, revision=revision, allow_patterns=files)
    except ModelError:
        raise
    except Exception as error:
        # The hub's client raises what its HTTP library does, another one in each major version.
        raise ModelError(f"{repository} {_reason(error, repository)}") from error
    model = _in_cache(Path(folder), repository, select)
    verify(model)
    return model


def _check_space(repository: Repository, needed: int) -> None:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(part for part in (cache, *cache.parents) if part.exists())).free
    if needed > free:
        raise ModelError(
            f"{repository} needs {needed / 1e6:.0f} MB and the disk of {cache} has "
            f"{free / 1e6:.0f} MB left: free some, or set HF_HOME to a folder on another disk"
        )


def _reason(error: Exception, repository: Repository) -> str:
    from huggingface_hub import constants, errors

    if any(getattr(cause, "errno", None) == errno.ENOSPC for cause in _causes(error)):
        return (
            f"filled the disk of {constants.HF_HUB_CACHE}: free some, or set HF_HOME to a folder "
            "on another disk"
        )
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


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
