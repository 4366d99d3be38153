"""Peak memory and time of Hyperfeatures on networks of Stable Diffusion 1.5's size.

Run: OMP_NUM_THREADS=2 python -m benchmarks.hyper
Weights are random, which changes neither. A few passes are measured, with and without the maps that
are aggregated; the time of an image's 50 passes, 11 of them with maps, follows from theirs. Memory
is that of the whole: maps are added up as they appear, so their number does not matter.
"""

from __future__ import annotations

import resource
import time

import numpy as np
import torch
from diffusers import DDIMScheduler

from benchmarks.prompt import networks
from propagate.benchmarks.table import markdown_table
from propagate.features.diffusion.denoisers import ConditionalUNet
from propagate.features.diffusion.model import DiffusionModel, NoiseLevels, up_block
from propagate.features.diffusion.vae import VaeEncoder
from propagate.features.hyper.extractor import HyperExtractor
from propagate.features.hyper.inversion import InversionSettings, InversionSource
from propagate.features.hyper.network import AggregationNetwork
from propagate.features.hyper.recipe import Inversion
from propagate.geometry import InputSize
from propagate.types import Frame, Size

_SIDE = 512
# Of the decoder's twelve residual blocks, from the coarsest on.
_CHANNELS = (1280,) * 6 + (640,) * 3 + (320,) * 3


def stable_diffusion() -> DiffusionModel:
    """The pipeline's UNet and VAE, with random weights and no text."""
    unet, vae = networks()
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    conditions = {"encoder_hidden_states": torch.randn(1, 77, 768)}
    return DiffusionModel(
        name="random",
        identity="random",
        encoder=VaeEncoder(vae),
        levels=NoiseLevels.of_diffusion(scheduler.alphas_cumprod.float()),
        denoiser=ConditionalUNet(unet, conditions, factor=8),
        up_block=lambda index: up_block("random", unet, index),
    )


def seconds(model: DiffusionModel, frame: Frame, inversion: Inversion) -> float:
    """Of the features of an image along a few steps."""
    source = InversionSource(
        model,
        InversionSettings(inversion=inversion, input_size=InputSize(exact=Size(_SIDE, _SIDE))),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    network = AggregationNetwork(_CHANNELS, steps=len(inversion.saves)).eval()
    extractor = HyperExtractor(network, source, weights="random")
    start = time.perf_counter()
    extractor.extract([frame])
    return time.perf_counter() - start


def main() -> None:
    model = stable_diffusion()
    rgb = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    frame = Frame("random", 0, rgb, 0.0, "0")
    one, two, more = (
        seconds(model, frame, Inversion(steps=steps, saves=saves))
        for steps, saves in ((1, (0,)), (2, (1, 0)), (4, (3, 0)))
    )
    plain, saved = (more - two) / 2, two - one
    rest = one - saved
    whole = Inversion()
    image = rest + len(whole.saves) * saved + (whole.steps - len(whole.saves)) * plain
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    head = ("peak GiB", "s a pass", "s a pass with maps", "s for the VAE", "s an image")
    row = (f"{peak:.2f}", *(f"{value:.1f}" for value in (plain, saved, rest, image)))
    print(markdown_table(list(head), [list(row)]))


if __name__ == "__main__":
    main()
