"""Peak memory and time of prompt-optimised matching on networks of Stable Diffusion 1.5's size.

Run: OMP_NUM_THREADS=2 python -m benchmarks.prompt [--points 1 20] [--batch-size 1]
Weights are random, which changes neither. Each number of points runs in a process of its own, with
few steps, prompts and crops; times of the full settings are extrapolated from one step's and one
crop's. Steps and crops cost the same each, so that is a matter of multiplying.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

_FULL = "5 prompts, 129 steps, 20 crops"


def random_network(kind: type, config: dict[str, object]) -> object:
    """A network with small random weights, in fp32."""
    import torch

    with torch.device("meta"):
        network = kind.from_config(config)  # type: ignore[attr-defined]
    network = network.to_empty(device="cpu").eval()
    for name, part in network.named_parameters():
        one = "norm" in name and name.endswith("weight")
        part.data.fill_(1.0) if one else part.data.normal_(0, 0.02)
    return network


def networks() -> tuple[object, object]:
    """UNet and VAE of Stable Diffusion 1.5 by their configurations."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet = {
        "sample_size": 64,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "block_out_channels": (320, 640, 1280, 1280),
    }
    vae = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 512,
    }
    return random_network(UNet2DConditionModel, unet), random_network(AutoencoderKL, vae)


class Laps:
    """Seconds of each step or crop, by the first word of the title."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def __call__(self, title: str, total: int | None, items: Iterable[int]) -> Iterator[int]:
        """Pass items on (a `Progress`)."""
        del total
        for item in items:
            start = time.perf_counter()
            yield item
            self.seconds.setdefault(title.split()[0], []).append(time.perf_counter() - start)


def measure(points: int, steps: int, batch_size: int) -> dict[str, float]:
    """One match in this process: seconds of a step, a crop and an encoding."""
    import numpy as np
    import torch
    from diffusers import DDIMScheduler

    from propagate.features.diffusion.denoisers import ConditionalUNet
    from propagate.features.diffusion.model import DiffusionModel, NoiseLevels, up_block
    from propagate.features.diffusion.vae import VaeEncoder
    from propagate.matching.prompt.crops import SeededDraws, shared_windows
    from propagate.matching.prompt.matcher import PromptMatcher
    from propagate.matching.prompt.network import PromptNetwork
    from propagate.matching.prompt.settings import CORRECTED
    from propagate.types import Frame

    # Four windows, encoded before the clock of steps and crops runs.
    settings = replace(CORRECTED, steps=steps, embeddings=1, crops=1, window_positions=2)
    unet, vae = networks()
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    model = DiffusionModel(
        name="random",
        identity="random",
        encoder=VaeEncoder(vae),
        levels=NoiseLevels.of_diffusion(scheduler.alphas_cumprod.float()),
        denoiser=ConditionalUNet(unet, {}, factor=8),
        up_block=lambda index: up_block("random", unet, index),
    )
    network = PromptNetwork(model, settings, device=torch.device("cpu"), dtype=torch.float32)
    laps = Laps()
    matcher = PromptMatcher(network, settings, batch_size=batch_size, progress=laps)
    random = np.random.default_rng(0)
    frames = [
        Frame(str(i), 0, random.integers(0, 256, (512, 512, 3), dtype=np.uint8), 0.0, str(i))
        for i in range(2)
    ]
    start = time.perf_counter()
    for frame in frames:
        image = matcher.input_of(frame)
        corners = replace(settings, crops=4)
        image.latents(shared_windows(image.size, SeededDraws(0, (0,)), corners))
    encoding = (time.perf_counter() - start) / 8
    matcher.match(frames[0], frames[1], random.uniform(100, 400, (points, 2)))
    chunks = -(-points // batch_size)
    step, crop = (sum(laps.seconds[name]) for name in ("optimise", "look"))
    return {
        "step": step / (chunks * steps) / min(batch_size, points),
        "crop": crop / chunks / min(batch_size, points),
        "encoding": encoding,
    }


def in_a_process(points: int, steps: int, batch_size: int) -> tuple[float, dict[str, float]]:
    """Peak resident GiB, and what `measure` says."""
    numbers = [str(points), str(steps), str(batch_size)]
    command = [sys.executable, "-m", "benchmarks.prompt", "--child", *numbers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 2**20, json.loads(told.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--steps", type=int, default=2, help="that are measured")
    parser.add_argument("--batch-size", type=int, default=1, help="prompts at once")
    parser.add_argument("--child", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(*arguments.child)))
        return
    print(f"| points | peak GiB | s a step | s a crop | s an encoding | h for {_FULL} |")
    print("| --- | --- | --- | --- | --- | --- |")
    for points in arguments.points:
        peak, took = in_a_process(points, arguments.steps, arguments.batch_size)
        steps, crops = points * 5 * 129, points * 5 * 20
        encodings = 25 + 20  # of the source's windows and the target's
        whole = steps * took["step"] + crops * took["crop"] + encodings * took["encoding"]
        cells = (f"{took[name]:.2f}" for name in ("step", "crop", "encoding"))
        print(f"| {points} | {peak:.2f} | {' | '.join(cells)} | {whole / 3600:.1f} |")


if __name__ == "__main__":
    main()
