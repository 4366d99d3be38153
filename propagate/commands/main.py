"""The `propagate` program: its command groups, and how errors and interrupts leave it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from propagate import __version__
from propagate.allocator import keep_freed_memory
from propagate.commands.lazy import LazyGroup
from propagate.errors import PropagateError

_COMMANDS = {
    "run": ("propagate.commands.run", "run"),
    "suggest": ("propagate.commands.suggest", "suggest"),
    "correct": ("propagate.commands.correct", "correct"),
    "inspect": ("propagate.commands.inspect", "inspect"),
    "transfer": ("propagate.commands.transfer", "transfer"),
    "match": ("propagate.commands.match", "match"),
    "batch": ("propagate.commands.batch", "batch"),
    "extract": ("propagate.commands.extract", "extract"),
    "generate": ("propagate.commands.generate", "generate"),
    "review": ("propagate.commands.review", "review"),
    "render": ("propagate.commands.render", "render"),
    "convert": ("propagate.commands.convert", "convert"),
    "eval": ("propagate.commands.eval", "evaluate"),
    "sweep": ("propagate.commands.sweep", "sweep"),
    "train": ("propagate.commands.train", "train"),
    "models": ("propagate.commands.models", "models"),
}

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


@click.group(
    cls=LazyGroup, table=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="propagate")
def program() -> None:
    """Carry labels from a few annotated frames through a whole video, with no training."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and leave with its exit code.

    Codes: 0 done, 1 failed, 2 wrong usage, 3 some clips or combinations failed, 130
    interrupted. An error made by the input is one sentence on stderr.
    """
    # GNU OpenMP's threads wait by spinning for so long that torch becomes many times slower next to
    # another busy program; a fifth of this costs twice the time on an idle machine, this nothing.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    keep_freed_memory()
    try:
        code = program.main(
            arguments,
            prog_name="propagate",
            standalone_mode=False,
            auto_envvar_prefix="PROPAGATE",
        )
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except PropagateError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except OSError as error:
        click.echo(f"Error: {error.strerror or error}: {error.filename or ''}", err=True)
        sys.exit(EXIT_FAILED)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)
