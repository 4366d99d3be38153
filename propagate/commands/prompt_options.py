"""Options of matching by optimised prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from propagate.commands.common import Command, with_options
from propagate.commands.model_options import resolve_model
from propagate.errors import InputError

if TYPE_CHECKING:
    from propagate.config import ModelOptions
    from propagate.matching.prompt.settings import PromptSettings


_PROMPT_MODEL = "sd14"  # that the paper used

_OPTIONS = (
    click.option("--steps", type=int, help="Prompt: steps of the optimisation.  [default: 129]"),
    click.option("--embeddings", type=int, help="Prompt: prompts for each point.  [default: 5]"),
    click.option(
        "--crops", type=int, help="Prompt: crops of TARGET that are looked at.  [default: 20]"
    ),
    click.option(
        "--size", type=int, help="Prompt: side of the network's input, in pixels.  [default: 512]"
    ),
    click.option(
        "--attention-layers",
        metavar="N,N,...",
        help="Prompt: cross-attention layers to average, counted in the order they run without the "
        "finest.  [default: 5,6,7,8]",
    ),
    click.option(
        "--published",
        is_flag=True,
        help="Prompt: with the reference program's oddities (square input).",
    ),
)


def resolve_matching_model(values: dict[str, Any]) -> tuple[str, ModelOptions]:
    """`resolve_model` for what `--method` says; prompts have a model of their own.

    Raises:
        InputError: a value is not allowed.
    """
    prompts = values["method"] == "prompt"
    if prompts and values["preset_name"] is None:
        values["model"] = values["model"] or _PROMPT_MODEL
    return resolve_model(values, task="semantic" if prompts else values["method"])


def prompt_options(command: Command) -> Command:
    """Add the options of `prompt_settings`."""
    return with_options(command, _OPTIONS)


def prompt_settings(values: dict[str, Any]) -> PromptSettings:
    """Settings by the options' names, over the published or the corrected ones.

    Raises:
        InputError: a value is not allowed.
    """
    from propagate.matching.prompt.settings import CORRECTED, PUBLISHED

    given: dict[str, Any] = {
        name: values[name] for name in ("steps", "embeddings", "crops", "size")
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if values["attention_layers"] is not None:
        chosen["layers"] = _numbers(values["attention_layers"])
    return replace(PUBLISHED if values["published"] else CORRECTED, **chosen)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--attention-layers is {text!r}; write numbers with commas, for example 5,6,7,8."
        ) from None
