"""Writes docs/cli.md from the commands themselves; `--check` fails when the file is out of date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from propagate.commands.main import program

TARGET = Path(__file__).with_name("cli.md")


def sections(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    """The help of a command and of all commands below it, as Markdown."""
    context = click.Context(
        command, info_name=" ".join(path), terminal_width=96, max_content_width=96
    )
    yield f"## `{' '.join(path)}`\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from sections(child, (*path, name))


def main() -> None:
    """Write the page, or compare it."""
    head = "# Command line\n\nMade by `docs/generate_cli.py`; don't edit by hand.\n"
    text = "\n".join([head, *sections(program, ("propagate",))])
    if "--check" not in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != text:
        sys.exit(f"{TARGET} is out of date; run python docs/generate_cli.py")


if __name__ == "__main__":
    main()
