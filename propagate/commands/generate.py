"""`propagate generate`: images with the features of their generation."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from propagate.commands.common import output_mode, parse_size, progress_bar
from propagate.commands.model_options import store_options
from propagate.config import ModelOptions
from propagate.types import Size


@click.command()
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."
)
@click.option(
    "--model",
    default="hyperfeatures",
    show_default=True,
    help="An aggregation of a diffusion model's steps: name, or folder with aggregation.json.",
)
@click.option("--count", type=int, default=1, show_default=True, help="Images of each prompt.")
@click.option("--negative-prompt", default="", help="What the images are led away from.")
@click.option(
    "--guidance",
    type=float,
    default=7.5,
    show_default=True,
    help="Scale of classifier-free guidance; 1: none, in half of the time.",
)
@click.option("--steps", type=int, help="Steps of DDIM.  [default: those of the aggregation, 50]")
@click.option("--size", metavar="WxH", help="Pixels of the images.  [default: the pipeline's own]")
@click.option("--prune", type=float, help="Leave out maps with less than this share.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the noise.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Precision of the networks.",
)
@click.option("--compile", is_flag=True, help="Compile the network's blocks.")
@click.option("--batch-size", type=int, help="Most images computed at once.")
@click.option("--memory", type=float, help="GB that activations may take; sets the batch.")
@click.option("--offline", is_flag=True, help="Never ask a model hub.")
@store_options
@click.option("--overwrite", is_flag=True, help="Replace an earlier generation in the folder.")
@click.option("--resume", is_flag=True, help="Make the images that an interrupted one left out.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def generate(
    prompts: tuple[str, ...],
    output: Path,
    overwrite: bool,
    resume: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Make images of each PROMPT, and store the Hyperfeatures of their generation.

    The images are in OUTPUT/images, and OUTPUT/features can be named with --model in place of a
    model wherever they are matched or carry labels.

    Writes images/NUMBER.png, features/ as `propagate extract` does, and generate.json.
    """
    from propagate.features.hyper.synthetic import OPTIONS, TextToImage
    from propagate.generate import GenerateRequest, generate_images

    size = values["size"]
    asked = TextToImage(
        prompts=prompts,
        negative=values["negative_prompt"],
        guidance=values["guidance"],
        steps=values["steps"],
        size=None if size is None else Size(*parse_size(size, "--size")),
        options=ModelOptions(**{name: values[name] for name in OPTIONS}),
    )
    names = ("count", "model", "store_dtype", "raw")
    request = GenerateRequest(
        output=output,
        asked=asked,
        mode=output_mode(overwrite=overwrite, resume=resume),
        **{name: values[name] for name in names},
    )
    report = generate_images(request, progress=partial(progress_bar, unit="step"))
    if as_json:
        images = [{"file": str(path), "prompt": prompt} for path, prompt in report.images]
        features = str(report.path / "features")
        click.echo(json.dumps({"output": str(report.path), "images": images, "features": features}))
        return
    for path, prompt in report.images:
        click.echo(f"{path}  {prompt}")
    click.echo(f"Their features: --model {report.path / 'features'}")
