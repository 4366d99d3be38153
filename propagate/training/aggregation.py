"""Training of an aggregation network from pairs: composition only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from propagate.config import EMBEDDED_MODEL, ModelOptions
from propagate.errors import InputError
from propagate.features.device import resolve_device
from propagate.features.hyper.create import create_source
from propagate.features.hyper.network import AggregationNetwork
from propagate.features.hyper.recipe import Inversion, Recipe
from propagate.features.hyper.sources import LayeredSource, MapSource
from propagate.output.record_folder import Mode
from propagate.progress import Progress as ShownProgress
from propagate.progress import no_progress
from propagate.training.folder import Progress, TrainFolder, TrainReport
from propagate.training.pairs import (
    AnnotatedPairs,
    PairSource,
    TrainingPair,
    find_pairs,
    hold_out,
    hold_out_images,
    read_pair,
)
from propagate.training.plots import draw_losses, draw_mixing
from propagate.training.settings import TrainSettings
from propagate.training.trainer import ALPHAS, Trainer, pck
from propagate.training.warps import WarpedImages, WarpSettings, find_images

_VALIDATION = 30
# Options that decide where and how fast it is computed, not what.
_NOT_DECIDING = ("device", "dtype", "compile", "batch_size", "memory", "offline")
# The size, and what is drawn at random, are free where the result is used.
_FREE = ("short_side", "input_size", "seed")


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """Everything a user says about one training.

    Args:
        output: folder to write.
        pairs: folder in the layout of SPair-71k, or a CSV file of points.
        images: folder of images that pairs are made of by warps. Exactly one of both is given.
        split: of SPair-71k.
        mode: what to do when `output` exists.
        model: the frozen model, for the registry.
        options: model options; several layers, for a model that has no inversion.
        inversion: take the maps along a diffusion model's inversion.
        settings: of the training.
        warps: how much the views of `images` differ.

    Raises:
        InputError: the values don't go together.
    """

    output: Path
    pairs: Path | None = None
    images: Path | None = None
    split: str = "trn"
    mode: Mode = "new"
    model: str = EMBEDDED_MODEL
    options: ModelOptions = field(default_factory=ModelOptions)
    inversion: Inversion | None = None
    settings: TrainSettings = field(default_factory=TrainSettings)
    warps: WarpSettings = field(default_factory=WarpSettings)

    def __post_init__(self) -> None:
        if (self.pairs is None) == (self.images is None):
            raise InputError(
                "Give either annotated pairs (--pairs) or images to make pairs of (--images)."
            )
        if self.options.pca is not None or self.options.prune is not None:
            raise InputError("pca and prune come after a training; leave them out.")

    def recipe(self) -> Recipe:
        """What the network is made for."""
        given = {name: value for name, value in self._given().items() if name not in _FREE}
        path = Path(self.model).expanduser()
        model = str(path.absolute()) if path.exists() else self.model
        return Recipe(
            model=model, options=given, inversion=self.inversion, groups=self.settings.groups
        )

    def _given(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in asdict(self.options).items()
            if name not in _NOT_DECIDING and self.options.is_set(name)
        }

    def config(self, processes: int) -> dict[str, Any]:
        """What decides the weights, JSON values only."""
        files = {name: getattr(self, name) for name in ("pairs", "images")}
        return {
            **{
                name: None if path is None else str(path.absolute()) for name, path in files.items()
            },
            "split": self.split,
            "recipe": asdict(self.recipe()),
            "options": self._given(),
            "settings": asdict(self.settings),
            "warps": asdict(self.warps) if self.images is not None else None,
            "processes": processes,
        }


def train_aggregation(request: TrainRequest, *, bar: ShownProgress[int]) -> TrainReport:
    """Train an aggregation, or go on with it.

    Args:
        request: what the user said.
        bar: wraps the steps.

    Raises:
        InputError, LabelError: options or pairs are wrong.
        ModelError: the model's files are.
        OutputError: the folder can't be written, or holds another training.
    """
    single = resolve_device(request.options.device)
    accelerator = Accelerator(cpu=single.type == "cpu", device_placement=False)
    folder = TrainFolder(
        request.output, request.config(accelerator.num_processes), mode=request.mode
    )
    pairs, validation = _pairs(request)
    device = single if accelerator.num_processes == 1 else accelerator.device
    source = create_source(request.recipe(), replace(request.options, device=str(device)))
    folder.check_same("model", source.identity)
    trainer = Trainer(
        source=source,
        pairs=pairs,
        validation=validation,
        settings=request.settings,
        device=device,
        accelerator=accelerator,
    )
    network = _network(trainer, request)
    optimizer = torch.optim.AdamW(network.parameters(), lr=request.settings.lr, weight_decay=0)
    progress = folder.load({"network": network}, optimizer)
    untrained = folder.started.get("untrained") if folder.started else _plain(source, validation)
    facts: dict[str, Any] = {"model": source.identity, "alphas": ALPHAS, "untrained": untrained}
    # No process looks at the folder any more when the first one starts to write.
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        folder.prepare()
        folder.write_record("running", **facts)

    def save() -> None:
        folder.save(network, optimizer, progress, request.recipe(), {"alphas": ALPHAS})
        _draw(folder, network, progress, source, request)

    shown = bar if accelerator.is_main_process else no_progress
    trainer.run(network, optimizer, progress, save, shown)
    accelerator.wait_for_everyone()
    facts |= {
        "loss": progress.latest_loss,
        "validation": progress.validations[-1][1:] if progress.validations else None,
        "mixing": network.mixing().tolist(),
    }
    record = facts
    if accelerator.is_main_process:
        record = folder.write_record("complete", **facts)
    return TrainReport(record, progress, folder.path, accelerator.is_main_process)


def _network(trainer: Trainer, request: TrainRequest) -> AggregationNetwork:
    settings, inversion = request.settings, request.inversion
    channels = trainer.channels()
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = AggregationNetwork(
            channels,
            steps=len(inversion.saves) if inversion else 1,
            width=settings.width,
            groups=settings.groups,
        )
    return network.to(trainer.device)


def _pairs(request: TrainRequest) -> tuple[PairSource, list[TrainingPair]]:
    seed = request.settings.seed
    if request.images is not None:
        paths = find_images(request.images)
        kept, held = hold_out_images(paths, _VALIDATION)
        trained = WarpedImages(kept, seed=seed, settings=request.warps)
        # Another seed than the training's, whatever that is.
        tested = WarpedImages(held, seed=seed + (1 << 32), settings=request.warps)
        count = min(_VALIDATION, max(len(paths) // 2, 4))
        return trained, [tested.pair(number) for number in range(count)]
    path = request.pairs or Path()
    files = find_pairs(path, request.split)
    kept_files, held_files = hold_out(files, _VALIDATION)
    return AnnotatedPairs(kept_files, seed=seed), [read_pair(pair) for pair in held_files]


def _plain(source: MapSource, validation: Sequence[TrainingPair]) -> tuple[float, ...] | None:
    """The validation of the layers as they are fused without any training."""
    if not validation or not isinstance(source, LayeredSource):
        return None
    return pck(validation, source.plain)


def _draw(
    folder: TrainFolder,
    network: AggregationNetwork,
    progress: Progress,
    source: MapSource,
    request: TrainRequest,
) -> None:
    draw_losses(progress, folder.curve, [f"validation PCK@{ALPHAS[0]:g}, %"], scale=100)
    inversion = request.inversion
    steps = [str(save) for save in inversion.saves] if inversion else [""]
    draw_mixing(
        network.mixing().detach().cpu().numpy(),
        _layer_names(source, request.options, len(network.channels)),
        steps,
        folder.mixing,
    )


def _layer_names(source: MapSource, options: ModelOptions, count: int) -> list[str]:
    found: Sequence[str] = getattr(source, "layers", ())
    if not found and options.layer is not None:
        found = options.layer.split("+")
    return list(found) if len(found) == count else [str(number + 1) for number in range(count)]
