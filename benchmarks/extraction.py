"""DIFT_sd features of one frame: the published order of work against ours.

Networks of Stable Diffusion 2.1's size with random weights, a 480x854 frame, up block 2. Published:
as many copies of the image as noise draws go through the VAE and the UNet, all at once, in fp32.
Ours: the VAE once, draws one by one, in fp32 and in bf16.

Run: python -m benchmarks.extraction [--ensemble 8 --short-side 480]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn

from benchmarks.affinity import resident
from propagate.features.diffusion.denoisers import ConditionalUNet
from propagate.features.diffusion.extractor import DiffusionExtractor, DiffusionSettings
from propagate.features.diffusion.model import DiffusionModel, NoiseLevels, up_block
from propagate.features.diffusion.vae import VaeEncoder
from propagate.features.noise import SeededNoise
from propagate.geometry import InputSize, resize_rgb
from propagate.types import Frame

STEP, UP_BLOCK, TEXT_WIDTH = 51, 2, 1024


def unet() -> UNet2DConditionModel:
    """Stable Diffusion 2.1's UNet: 866 million parameters."""
    return UNet2DConditionModel(
        block_out_channels=(320, 640, 1280, 1280),
        attention_head_dim=(5, 10, 20, 20),
        cross_attention_dim=TEXT_WIDTH,
        use_linear_projection=True,
    )


def vae() -> AutoencoderKL:
    """The VAE of Stable Diffusion 1 and 2."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.18215,
    )


def random_weights(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    """A network with the same random weights in every process, made without the usual wait."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            network = make()
    finally:
        torch.set_default_dtype(default)
    network = network.to_empty(device="cpu").requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(0)
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            fan_in = weight[0].numel()
            values = torch.randn(weight.shape, generator=generator) / fan_in**0.5
            weight.copy_(values)
        else:
            weight.fill_(float(name.endswith("weight")))
    return network


def picture(height: int = 480, width: int = 854) -> Frame:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    rgb = np.ascontiguousarray(coarse.repeat(20, 0).repeat(20, 1))
    return Frame("benchmark", 0, rgb, 0.0, "0")


def text(width: int = TEXT_WIDTH) -> torch.Tensor:
    return torch.randn(1, 77, width, generator=torch.Generator().manual_seed(1))


def alphas() -> torch.Tensor:
    options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(**options).alphas_cumprod


def published(arguments: argparse.Namespace) -> Callable[[], torch.Tensor]:
    """Copies of the image, all at once, in fp32 (`SDFeaturizer.forward` in DIFT's `dift_sd.py`)."""
    encoder, network = random_weights(vae, torch.float32), random_weights(unet, torch.float32)
    frame, noise, count = picture(), SeededNoise(0), arguments.ensemble
    size = InputSize(short_side=arguments.short_side).of(frame.size)
    found: list[torch.Tensor] = []

    class ReachedError(Exception):
        pass

    def stop(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        found.append(output)
        raise ReachedError

    network.up_blocks[UP_BLOCK].register_forward_hook(stop)

    def run() -> torch.Tensor:
        pixels = torch.from_numpy(resize_rgb(frame.rgb, size)).permute(2, 0, 1)[None]
        copies = (pixels.float() / 255 - 0.5).repeat(count, 1, 1, 1) / 0.5
        with torch.inference_mode():
            posterior = encoder.encode(copies).latent_dist
            shape = tuple(posterior.mean.shape[1:])
            drawn = [
                torch.stack(
                    [noise.draw(kind, frame=0, member=m, shape=shape) for m in range(count)]
                )
                for kind in ("posterior", "diffusion")
            ]
            latents = (posterior.mean + posterior.std * drawn[0]) * 0.18215
            alpha = alphas()[STEP]
            noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * drawn[1]
            try:
                network(noisy, STEP, encoder_hidden_states=text().repeat(count, 1, 1))
            except ReachedError:
                return found.pop().mean(dim=0)
        raise RuntimeError("the up block was not reached")

    return run


class Networks(NamedTuple):
    """What makes the networks of a model, and the width of the text that one of them sees."""

    unet: Callable[[], nn.Module]
    vae: Callable[[], nn.Module]
    text_width: int


STABLE_DIFFUSION_21 = Networks(unet, vae, TEXT_WIDTH)


def extractor_of(
    networks: Networks,
    *,
    device: torch.device,
    dtype: torch.dtype,
    ensemble: int,
    short_side: int,
    batch: int | None = None,
) -> DiffusionExtractor:
    """Our extractor on networks with random weights."""
    network = random_weights(networks.unet, dtype)
    conditions = {"encoder_hidden_states": text(networks.text_width).to(dtype)}
    model = DiffusionModel(
        name="random weights",
        identity="random weights",
        encoder=VaeEncoder(random_weights(networks.vae, dtype)),
        levels=NoiseLevels.of_diffusion(alphas()),
        denoiser=ConditionalUNet(network, conditions, factor=8),
        up_block=lambda index: up_block("random weights", network, index),
    )
    settings = DiffusionSettings(
        t=STEP,
        layers=(f"up_blocks.{UP_BLOCK}",),
        ensemble_size=ensemble,
        input_size=InputSize(short_side=short_side),
        batch_size=batch,
    )
    return DiffusionExtractor(model, settings, device=device, dtype=dtype)


def ours(arguments: argparse.Namespace, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    extractor = extractor_of(
        STABLE_DIFFUSION_21,
        device=torch.device("cpu"),
        dtype=dtype,
        ensemble=arguments.ensemble,
        short_side=arguments.short_side,
        batch=arguments.batch,
    )
    frame = picture()
    return lambda: extractor.extract([frame])[0].data


METHODS = {
    "published, fp32": published,
    "ours, fp32": lambda arguments: ours(arguments, torch.float32),
    "ours, bf16": lambda arguments: ours(arguments, torch.bfloat16),
}


def measure(arguments: argparse.Namespace, method: str, queue: multiprocessing.Queue) -> None:
    """Seconds of one frame, and the peak memory of the process, weights included."""
    run = METHODS[method](arguments)
    start = time.perf_counter()
    data = run()
    queue.put((time.perf_counter() - start, resident("VmHWM"), data.float().numpy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ensemble", type=int, default=8)
    parser.add_argument("--short-side", type=int, default=480)
    parser.add_argument("--batch", type=int, help="our batch; one draw at a time if not given")
    parser.add_argument("--only", choices=list(METHODS), nargs="+", default=list(METHODS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    rows, first = [], None
    for method in arguments.only:
        queue = spawn.Queue()
        process = spawn.Process(target=measure, args=(arguments, method, queue))
        process.start()
        seconds, peak, data = queue.get()
        process.join()
        first = first or (seconds, peak, data)
        cosine = (data * first[2]).sum(0) / np.linalg.norm(data, axis=0)
        cosine /= np.linalg.norm(first[2], axis=0)
        rows.append(
            {
                "method": method,
                "seconds": round(seconds, 2),
                "times faster": round(first[0] / seconds, 2),
                "peak MiB": round(peak),
                "of published": round(peak / first[1], 3),
                "least cosine": round(float(cosine.min()), 5),
            }
        )
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"ensemble {arguments.ensemble}, threads {torch.get_num_threads()}")
    print(f"| {' | '.join(rows[0])} |\n|{' --- |' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(map(str, row.values()))} |")


if __name__ == "__main__":
    main()
