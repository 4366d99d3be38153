"""What an installation holds, and what it must not."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution, distributions
from importlib.resources import files
from pathlib import Path

import pytest

from propagate.output.review.page import SCRIPTS

ROOT = Path(__file__).resolve().parent.parent


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed() -> dict[str, list[str]]:
    """What an installation of this project pulls in, directly or not, and what each asks for."""
    installed = {normal(d.metadata["Name"]): d for d in distributions()}
    found: dict[str, list[str]] = {}
    left = ["dift-propagate"]
    while left:
        name = left.pop()
        if name in found or name not in installed:
            continue
        required = [r for r in installed[name].requires or () if "extra ==" not in r]
        found[name] = [normal(match[0]) for r in required if (match := re.match(r"[\w.-]+", r))]
        left += found[name]
    return found


def test_only_one_opencv_is_installed() -> None:
    """Two of them write the same files and break each other."""
    installed = {normal(d.metadata["Name"]) for d in distributions()}
    assert {name for name in installed if name.startswith("opencv")} == {"opencv-python"}


def test_nothing_asks_for_another_opencv_or_for_torchvision() -> None:
    requirements = needed()
    assert {"torch", "opencv-python", "diffusers"} <= set(requirements)
    for name, required in requirements.items():
        unwanted = {"torchvision", "opencv-python-headless", "opencv-contrib-python"}
        assert not unwanted & set(required), name


def test_command_and_checkout_are_the_same_program() -> None:
    installed = Path(sys.executable).parent / "propagate"
    if not installed.exists():
        pytest.skip("the project is not installed in this environment")
    outputs = {
        subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
        for command in ([str(installed)], [sys.executable, str(ROOT / "cli.py")])
    }
    assert len(outputs) == 1


def test_no_generic_module_is_installed() -> None:
    installed = {str(file) for file in distribution("dift-propagate").files or ()}
    assert not {"cli.py", "tests/__init__.py", "examples/demo.py"} & installed


def test_the_parts_of_the_review_page_are_packaged() -> None:
    """They are read as resources of the package, which the wheel takes as a whole."""
    page = files("propagate.output.review").joinpath("page")
    assert {"page.html", "page.css", *SCRIPTS} == {part.name for part in page.iterdir()}
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wheel = settings.split("[tool.hatch.build.targets.wheel]")[1].split("[")
    assert wheel[0].strip() == "packages ="
    assert wheel[1].startswith('"propagate"]')
