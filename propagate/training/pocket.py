"""Training of a denoiser small enough to be installed with the program: composition only."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import UNet2DModel

from propagate.features.device import resolve_device, resolve_dtype
from propagate.output.record_folder import Mode
from propagate.progress import Progress as ShownProgress
from propagate.progress import no_progress
from propagate.training.alignment import AlignedDenoiser, Teacher
from propagate.training.denoising import DenoisingTrainer, linear_levels
from propagate.training.folder import TrainReport
from propagate.training.images import RandomCrops, StoredImage, stored_images
from propagate.training.pairs import hold_out_images
from propagate.training.plots import draw_denoised, draw_losses
from propagate.training.pocket_folder import PocketFolder
from propagate.training.pocket_settings import PocketSettings

_VALIDATION = 64  # images
_VALIDATED = ("denoising other images", "1 - cosine with the teacher there")
_SHOWN = 8  # crops in the picture
_SHOWN_STEPS = (51, 151, 301, 501)


@dataclass(frozen=True, kw_only=True)
class PocketRequest:
    """Everything a user says about one training of a denoiser.

    Args:
        output: folder to write.
        images: folder, or uncompressed tar file, of images.
        mode: what to do when `output` exists.
        settings: network and training.
        device: where it is trained.
        dtype: what the network computes in: "auto", "fp32" or "bf16"; weights stay in float32.
    """

    output: Path
    images: Path
    mode: Mode = "new"
    settings: PocketSettings = field(default_factory=PocketSettings)
    device: str = "auto"
    dtype: str = "auto"

    def config(self, processes: int) -> dict[str, Any]:
        """What decides the weights, JSON values only."""
        settings = asdict(self.settings)
        return {"images": str(self.images.absolute()), "settings": settings, "processes": processes}


def train_pocket(request: PocketRequest, *, bar: ShownProgress[int]) -> TrainReport:
    """Train a denoiser, or go on with it.

    Args:
        request: what the user said.
        bar: wraps the steps.

    Raises:
        InputError: options or images are wrong.
        ModelError: the loss is not finite any more.
        OutputError: the folder can't be written, or holds another training.
    """
    settings = request.settings
    device = resolve_device(request.device)
    half = resolve_dtype(request.dtype, device) == torch.bfloat16
    accelerator = Accelerator(
        cpu=device.type == "cpu", device_placement=False, mixed_precision="bf16" if half else "no"
    )
    if accelerator.num_processes > 1:
        device = accelerator.device
    folder = PocketFolder(
        request.output, request.config(accelerator.num_processes), mode=request.mode
    )
    images = stored_images(request.images)
    trainer = _trainer(images, settings, device, accelerator)
    channels = None if trainer.teacher is None else trainer.teacher.channels
    network = initial_network(settings, channels).to(device)
    average = deepcopy(network).requires_grad_(False).eval()
    modules = {"network": network, "average": average}
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.decay)
    progress = folder.load(modules, optimizer)
    facts = {
        "images": len(images),
        "parameters": sum(part.numel() for part in network.denoiser.parameters()),
    }
    # No process looks at the folder any more when the first one starts to write.
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        folder.prepare()
        folder.write_record("running", **facts)

    def save() -> None:
        folder.save_checkpoint(modules, optimizer, progress)
        folder.save_model(average.denoiser)
        draw_losses(progress, folder.curve, _VALIDATED)
        _draw(folder.denoised, trainer, average.denoiser)

    shown = bar if accelerator.is_main_process else no_progress
    trainer.run(network, average, optimizer, progress, save, shown)
    accelerator.wait_for_everyone()
    record: dict[str, Any] = facts | {
        "loss": progress.latest_loss,
        "validation": progress.validations[-1][1],
        "misalignment": None if channels is None else progress.validations[-1][2],
        "bytes": folder.weights.stat().st_size,
    }
    if accelerator.is_main_process:
        record = folder.write_record("complete", **record)
    return TrainReport(record, progress, folder.path, accelerator.is_main_process)


def initial_network(settings: PocketSettings, channels: int | None = None) -> AlignedDenoiser:
    """The network with its first, random weights; `channels` are those of a teacher."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        denoiser = UNet2DModel(**settings.architecture())
        return AlignedDenoiser(denoiser, settings.align_layer, channels)


def _trainer(
    images: Sequence[StoredImage],
    settings: PocketSettings,
    device: torch.device,
    accelerator: Accelerator,
) -> DenoisingTrainer:
    kept, held = hold_out_images(images, _VALIDATION)
    return DenoisingTrainer(
        crops=_crops(kept, settings),
        validation=_crops(held, settings),
        levels=linear_levels(),
        teacher=None if settings.teacher is None else Teacher(settings.teacher, device),
        settings=settings,
        device=device,
        accelerator=accelerator,
    )


def _crops(images: Sequence[StoredImage], settings: PocketSettings) -> RandomCrops:
    return RandomCrops(
        images=images,
        side=settings.side,
        zoom=settings.zoom,
        colour=settings.colour,
        seed=settings.seed,
    )


def _draw(target: Path, trainer: DenoisingTrainer, average: UNet2DModel) -> None:
    crops = trainer.validation.batch(0, _SHOWN)
    rows = [("crop", crops)]
    for t in _SHOWN_STEPS:
        noisy, denoised = trainer.denoise(average, crops, t)
        rows += [(f"t={t}", noisy), ("denoised", denoised)]
    draw_denoised(rows, target)
