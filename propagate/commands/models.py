"""`propagate models`: what can be named with --model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from propagate.features.card import ModelCard


@click.group()
def models() -> None:
    """List models, look at one, and download weights."""


@models.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known as JSON.")
def list_models(as_json: bool) -> None:
    """Names of models, their licences, sizes, strides and what they are."""
    from propagate.features.registry import cards

    if as_json:
        click.echo(json.dumps([_facts(card) for card in cards().values()], indent=2))
        return
    click.echo(f"{'name':24}{'MB':>7}{'stride':>8}  {'licence':28}summary")
    for card in cards().values():
        size = f"{card.size_mb}" if card.size_mb else "-"
        click.echo(f"{card.name:24}{size:>7}{card.stride:>8}  {card.licence[:26]:28}{card.summary}")
    click.echo(
        "Also: a folder or hub repository (owner/name[@revision]) with a diffusers pipeline or a "
        "transformers vision model, a checkpoint of ADM (.pt), a folder of stored features; and "
        "several joined by +."
    )


@models.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(model: str, as_json: bool) -> None:
    """All that is known of MODEL before it is loaded: source, revision, knobs for each task."""
    from propagate.features.registry import find_card, find_installed

    facts = _facts(find_card(model))
    found = find_installed(model)
    facts["installed"] = None if found is None else str(found.path.absolute())
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        click.echo(f"{name:14}{_shown(value)}")


@models.command()
@click.argument("model")
def download(model: str) -> None:
    """Fetch the weights of MODEL, check them, and keep them for use without a network."""
    from propagate.features.hub import verify
    from propagate.features.registry import find_card, locate

    if find_card(model).ships:
        click.echo(f"{model} is installed with the program; nothing to download.")
        return
    files = locate(model).files
    for part in (files, files.base):
        if part is not None:
            verify(part)
            click.echo(f"{model} is in {part.path}")


@models.command()
@click.argument("model")
def path(model: str) -> None:
    """Where the weights of MODEL are on this machine; fails when they are not."""
    from propagate.features.registry import find_card, locate

    card = find_card(model)
    if card.ships and card.inside is None:
        click.echo("installed with the program")
        return
    click.echo(locate(model, offline=True).files.path)


@models.command()
@click.argument("model")
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def layers(model: str, offline: bool, as_json: bool) -> None:
    """What --layer can name for MODEL, with channels and stride."""
    from propagate.errors import InputError
    from propagate.features.registry import locate

    found = locate(model, offline=offline)
    if found.family.layers is None:
        raise InputError(
            f"{model} has no list of layers; `propagate models show {model}` says what it takes."
        )
    rows = found.family.layers(found.files)
    if as_json:
        click.echo(json.dumps([vars(row) for row in rows]))
        return
    width = max(len(row.name) for row in rows) + 2
    click.echo(f"{'layer':{width}}{'channels':>9}{'stride':>8}")
    for row in rows:
        click.echo(f"{row.name:{width}}{row.channels:>9}{row.stride:>8g}")


def _facts(card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "aliases": list(card.aliases),
        "summary": card.summary,
        "licence": card.licence,
        "sources": [f"{repo}@{revision}" for repo, revision in card.repositories]
        + ([card.download.url] if card.download else []),
        "base": card.base,
        "size_mb": card.size_mb,
        "stride": card.stride,
        "knobs": {task: _set(options) for task, options in card.knobs.items()},
    }


def _set(options: Any) -> dict[str, Any]:
    """The options that differ from what is unset."""
    default = type(options)()
    return {name: value for name, value in vars(options).items() if value != getattr(default, name)}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        rows = (f"{key}: {', '.join(f'{k}={v}' for k, v in v.items())}" for key, v in value.items())
        return f"\n{'':14}".join(rows) or "-"
    if isinstance(value, list):
        return f"\n{'':14}".join(map(str, value)) or "-"
    return "-" if value in (None, "") else str(value)
