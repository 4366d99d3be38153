"""Compiles the C sources for this machine's processor, once, and loads them.

Nothing here is needed: whoever calls has a way without. `PROPAGATE_NATIVE=0` turns it off.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path

_FLAGS = ("-std=c11", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared")
_SECONDS = 60
_log = logging.getLogger(__name__)


@cache
def load(name: str) -> ctypes.CDLL | None:
    """The library of `name`.c, or None where it can't be had; the reason is logged.

    Args:
        name: of a source in this package.
    """
    if os.environ.get("PROPAGATE_NATIVE") == "0":
        return None
    compiler = _compiler()
    if compiler is None:
        _log.info("No C compiler, so %s runs in torch.", name)
        return None
    try:
        return ctypes.CDLL(str(_compiled(name, compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        _log.info("%s can't be compiled, so it runs in torch: %s", name, error)
        return None


def _compiler() -> str | None:
    wanted = (os.environ.get("CC"), "cc", "gcc", "clang")
    return next((path for path in map(shutil.which, filter(None, wanted)) if path), None)


def _compiled(name: str, compiler: str) -> Path:
    """The library in the cache; made where it isn't there."""
    source = (files(__package__) / f"{name}.c").read_bytes()
    told = "\0".join((compiler, *_FLAGS, platform.platform(), _processor())).encode()
    digest = hashlib.sha256(source + told).hexdigest()[:24]
    folder = _cache()
    target = folder / f"{name}-{digest}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            written, made = Path(work) / f"{name}.c", Path(work) / "made.so"
            written.write_bytes(source)
            # Nothing here comes from a user but CC, which is theirs to set.
            subprocess.run(  # noqa: S603
                [compiler, *_FLAGS, str(written), "-o", str(made)],
                check=True,
                capture_output=True,
                timeout=_SECONDS,
            )
            made.replace(target)
    return target


def _cache() -> Path:
    """A folder that nobody else can write to.

    Raises:
        OSError: it can't be made, or others can.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "propagate" / "native"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    others = stat.S_IWGRP | stat.S_IWOTH
    if status.st_mode & others or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        raise OSError(f"{folder} can be written by others")
    return folder


def _processor() -> str:
    """What the compiler goes by: a home folder may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
