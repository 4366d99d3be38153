"""What importing costs, and that a module per layer can be imported by itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

import propagate

HEAVY = ("torch", "diffusers", "transformers", "decord", "av", "cv2", "scipy", "PIL", "matplotlib")


@pytest.mark.parametrize(
    "statement",
    [
        "import propagate",
        "from propagate.commands.main import program; program(['--help'], standalone_mode=False)",
        "from propagate.commands.main import program;"
        "program(['run', '--help'], standalone_mode=False)",
        "from propagate.commands.main import program;"
        "program(['eval', 'davis2017', '--help'], standalone_mode=False)",
        "from propagate.commands.main import program;"
        "program(['sweep', 'davis', '--help'], standalone_mode=False)",
        "from propagate.commands.main import program;"
        "program(['extract', '--help'], standalone_mode=False)",
        "from propagate.commands.main import program;"
        "program(['generate', '--help'], standalone_mode=False)",
        "from propagate.commands.main import program;"
        "program(['batch', '--help'], standalone_mode=False)",
        "from propagate.commands.main import program;"
        "program(['inspect', '--help'], standalone_mode=False)",
        "from propagate.commands.main import program;"
        "program(['transfer', '--help'], standalone_mode=False)",
        "from propagate.commands.main import program;"
        "program(['convert', '--help'], standalone_mode=False)",
        "from propagate.commands.main import program;"
        "program(['models', 'list'], standalone_mode=False)",
    ],
)
def test_no_heavy_import(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint('|' + ','.join(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rsplit("|", 1)[1].strip() == ""


@pytest.mark.parametrize(
    "module", ["propagate.run", "propagate.match.job", "propagate.benchmarks.pair_benchmark"]
)
def test_what_works_without_diffusion_loads_no_diffusers(module: str) -> None:
    names = ("diffusers", "transformers")
    code = f"import {module}, sys; print([m for m in {names} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_imported() -> None:
    assert sorted(propagate.__all__) == sorted(propagate._HOMES)
    for name in propagate.__all__:
        assert getattr(propagate, name).__module__.startswith("propagate.")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = propagate.nope
