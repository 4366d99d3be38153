"""`propagate models`: what can be named with --model."""

from __future__ import annotations

import click

from propagate.config import EMBEDDED_MODEL


@click.group()
def models() -> None:
    """List models, and download their weights."""


@models.command(name="list")
def list_models() -> None:
    """Names, where the weights come from, and their licences."""
    from propagate.features.hub import SOURCES

    click.echo(f"{EMBEDDED_MODEL:20}installed with the program (Apache-2.0)")
    for source in SOURCES.values():
        click.echo(f"{source.alias:20}{source.notes} ({source.licence})")
        for repository in source.repositories:
            click.echo(f"{'':20}{repository}")
    click.echo(
        "Also: a folder with a Stable Diffusion pipeline, or a hub repository as owner/name."
    )


@models.command()
@click.argument("model")
def download(model: str) -> None:
    """Fetch the weights of MODEL into the hub's cache, for use without a network later."""
    from propagate.features.hub import resolve

    if model == EMBEDDED_MODEL:
        click.echo(f"{EMBEDDED_MODEL} is installed with the program; nothing to download.")
        return
    click.echo(f"{model} is in {resolve(model).folder}")
