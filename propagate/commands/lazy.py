"""Groups of commands whose modules are imported when a command is called or listed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is asked for.

    Args:
        table: name -> (module, attribute), in the order of the help.
        settings: what `click.Group` takes.
    """

    def __init__(self, *, table: Mapping[str, tuple[str, str]], **settings: Any) -> None:
        super().__init__(**settings)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        del ctx
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command called `cmd_name`."""
        del ctx
        if cmd_name not in self._table:
            return None
        module, attribute = self._table[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command
