"""A folder that one job writes and may continue, with a JSON record of what decides its content."""

from __future__ import annotations

import json
import platform
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Literal

from propagate.errors import OutputError
from propagate.output.atomic import atomic_path

Mode = Literal["new", "overwrite", "resume", "correct"]

_NAMED = 3  # differences that a message names

_REPORTED_PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "opencv-python",
    "decord2",
    "av",
    "numpy",
)


class RecordFolder(ABC):
    """Checks and the record of one job's folder; `job` is what messages call it.

    Args:
        path: the folder; made when missing.
        config: everything that decides the result, JSON values only. A resumed job must have the
            same.
        mode: "new" refuses a folder that has anything in it, "overwrite" replaces what an earlier
            job of this kind wrote there (and nothing else), "resume" continues it, "correct"
            continues it with another configuration.

    Making the object only checks; `prepare` is the first to write.

    Raises:
        OutputError: as said under `mode`, or when `config` differs from the job to resume.
    """

    job: ClassVar[str] = "run"

    def __init__(self, path: Path, config: Mapping[str, Any], *, mode: Mode) -> None:
        self.path = path
        self._config = json.loads(json.dumps(config))
        self._started: dict[str, Any] = {}
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file; name a folder for the output.")
        self._replaces = False
        if mode == "correct":
            self._started = read_record(self.record_path, self.job)
        elif mode == "resume" and self.record_path.exists():
            self._started = self._resumable()
        elif path.exists() and any(path.iterdir()):
            self._check_replaceable(mode)
            self._replaces = True

    @property
    @abstractmethod
    def record_path(self) -> Path:
        """The resolved configuration and what came of it; marks the folder as ours."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the folder, without what an earlier job left there if it is to be replaced.

        Raises:
            OutputError: the folder can't be made.
        """

    @property
    def complete(self) -> bool:
        """Whether the job that is resumed had already finished."""
        return self._started.get("status") == "complete"

    @property
    def changed(self) -> bool:
        """Whether the job that is continued had another configuration."""
        return bool(self._started) and self._started["config"] != self._config

    @property
    def started(self) -> Mapping[str, Any]:
        """The record of the job that is continued; empty for a new one."""
        return self._started

    def check_same(self, name: str, value: str) -> None:
        """Compare a fact that only the opened inputs tell with what the resumed job recorded.

        Raises:
            OutputError: naming both.
        """
        earlier = self._started.get(name, value)
        if earlier != value:
            raise OutputError(
                f"The {self.job} in {self.path} can't be resumed: its {name} was {earlier} and is "
                f"now {value}; start over with --overwrite."
            )

    def write_record(self, status: Literal["running", "complete"], **facts: Any) -> dict[str, Any]:
        """Write the record anew, and return it: status, configuration, versions and `facts`."""
        record = {"status": status, "config": self._config, "versions": _versions(), **facts}
        with atomic_path(self.record_path) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        return record

    def _resumable(self) -> dict[str, Any]:
        record = read_record(self.record_path, self.job)
        earlier, now = (dict(_flat(config)) for config in (record["config"], self._config))
        changed = [
            f"{name} was {earlier.get(name)!r} and is now {now.get(name)!r}"
            for name in sorted({*earlier, *now})
            if earlier.get(name) != now.get(name)
        ]
        if changed:
            more = f"; and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
            raise OutputError(
                f"The {self.job} in {self.path} can't be resumed with other settings "
                f"({'; '.join(changed[:_NAMED])}{more}); use the same ones, or start over with "
                "--overwrite."
            )
        return record

    def _check_replaceable(self, mode: Mode) -> None:
        if not self.record_path.exists():
            raise OutputError(
                f"{self.path} is not empty and holds no {self.job} of this program, so nothing in "
                "it is touched; choose another folder."
            )
        if mode != "overwrite":
            raise OutputError(
                f"{self.path} already holds a {self.job}; continue it with --resume, replace it "
                "with --overwrite, or choose another folder."
            )


class ReplaceableFolder(RecordFolder):
    """A folder whose job is short and starts over instead of going on."""

    def _check_replaceable(self, mode: Mode) -> None:
        if self.record_path.exists() and mode != "overwrite":
            raise OutputError(
                f"{self.path} already holds a {self.job}; replace it with --overwrite, or choose "
                "another folder."
            )
        super()._check_replaceable(mode)


def read_record(path: Path, job: str) -> dict[str, Any]:
    """The record of a job, as `write_record` wrote it.

    Args:
        path: of the file.
        job: what messages call the job.

    Raises:
        OutputError: it is damaged, or something else.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{path} can't be read ({error}); start over with --overwrite."
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise OutputError(f"{path} is not the record of a {job}; start over with --overwrite.")
    return record


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "propagate": _version("dift-propagate")}
    return found | {name: _version(name) for name in _REPORTED_PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
