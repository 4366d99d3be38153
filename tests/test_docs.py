"""Docs that can't drift: every command line shown is one the program takes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from propagate.commands.main import program

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def shown_commands() -> list[tuple[str, list[str]]]:
    lines = [
        (page.name, line.split("$ ", 1)[1])
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith("$ propagate ")
    ]
    return [(name, shlex.split(line, comments=True)[1:]) for name, line in lines]


@pytest.mark.parametrize(("page", "words"), shown_commands())
def test_shown_command_exists(page: str, words: list[str]) -> None:
    command: click.Command = program
    words = list(words)
    while isinstance(command, click.Group):
        context = click.Context(command)
        found = command.get_command(context, words.pop(0))
        assert found is not None, page
        command = found
    options = {name for parameter in command.params for name in parameter.opts}
    for word in words:
        if word.startswith("-") and not re.fullmatch(r"-?\d.*", word):
            assert word in options, f"{page}: {command.name} has no {word}"


def test_there_are_commands_to_check() -> None:
    assert len(shown_commands()) > 5


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+\.(?:md|png|jpg|py))", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_generated_reference_is_up_to_date() -> None:
    command = [sys.executable, "docs/generate_cli.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
