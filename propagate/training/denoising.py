"""The loop that trains a denoiser of pixels, step by step the same whenever it is resumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name

from propagate.errors import ModelError
from propagate.features.diffusion.model import NoiseLevels, PixelEncoder
from propagate.progress import Progress as ShownProgress
from propagate.training.alignment import AlignedDenoiser, Teacher, misalignment
from propagate.training.folder import Progress
from propagate.training.images import RandomCrops
from propagate.training.pocket_settings import STEPS, PocketSettings

if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers import UNet2DModel
    from jaxtyping import Bool, Float, Int, UInt8
    from torch import Tensor, nn

_VALIDATION = 64  # crops, always the same ones with the same noise


@dataclass(frozen=True, kw_only=True)
class DenoisingTrainer:
    """One training of a network that tells an image from noise, by v-prediction.

    v = signal noise - sigma x (Salimans and Ho, "Progressive Distillation", 2022, appendix D).

    Args:
        crops: to train on.
        validation: crops of other images.
        levels: of noise.
        teacher: of the second task, if there is one.
        settings: of the training.
        device: where the network is.
        accelerator: knows how many processes share a step, and what is computed in bfloat16.
    """

    crops: RandomCrops
    validation: RandomCrops
    levels: NoiseLevels
    teacher: Teacher | None
    settings: PocketSettings
    device: torch.device
    accelerator: Accelerator

    def run(
        self,
        network: AlignedDenoiser,
        average: AlignedDenoiser,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        save: Callable[[], None],
        bar: ShownProgress[int],
    ) -> None:
        """Train from where `progress` is to the last step.

        Args:
            network: is trained in place.
            average: of its weights over the steps; is what features are taken from.
            optimizer: of the network's parameters.
            progress: is added to.
            save: writes a checkpoint; called in the first process only.
            bar: wraps the steps.

        Raises:
            ModelError: the loss is not finite any more.
            InputError: an image can't be read, or all are too small.
        """
        accelerator, settings = self.accelerator, self.settings
        prepared, stepper = accelerator.prepare(network, optimizer)
        left = range(progress.step, settings.steps)
        batches = self._batches(left)
        for step in bar("training", len(left), left):
            progress.losses.append(self._step(prepared, stepper, next(batches), step))
            _follow(average, network, min(settings.ema, (1 + step) / (10 + step)))
            done = step + 1
            due = done % settings.save_every == 0 or done == settings.steps
            if due and accelerator.is_main_process:
                progress.validations.append((float(done), *self.validate(average)))
                save()

    def _batches(self, steps: range) -> Iterator[UInt8[np.ndarray, "n side side 3"]]:
        """A batch per step, the next one cut while the last one is learned from."""
        accelerator, count = self.accelerator, self.settings.batch

        def cut(step: int) -> UInt8[np.ndarray, "n side side 3"]:
            place = step * accelerator.num_processes + accelerator.process_index
            return self.crops.batch(place * count, count)

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(cut, steps.start)
            for step in steps:
                batch = ahead.result()
                ahead = pool.submit(cut, step + 1)
                yield batch

    def _step(
        self, network: nn.Module, optimizer: Any, batch: UInt8[np.ndarray, "n h w 3"], step: int
    ) -> float:
        accelerator, settings = self.accelerator, self.settings
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step)
        random = torch.Generator().manual_seed(
            _seed(settings.seed, step, accelerator.process_index)
        )
        with torch.enable_grad():
            denoising, alignment = self._losses(network, batch, random)
            loss = denoising + settings.align * alignment
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        value = float(accelerator.reduce(loss.detach(), reduction="mean"))
        if not math.isfinite(value):
            raise ModelError(f"The loss of step {step + 1} is {value}; choose a lower --lr.")
        return value

    def _losses(
        self, network: nn.Module, batch: UInt8[np.ndarray, "n h w 3"], random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Of denoising, and of what the teacher sees; 0 for the second without one."""
        t, noised = self._steps(len(batch), random)
        clean = self.latents(batch)
        noise = torch.randn(clean.shape, generator=random)
        noisy, wanted = self.noised(clean, noise, t)
        with self.accelerator.autocast():
            predicted, seen = network(noisy.to(self.device), t.to(self.device))
        errors = F.mse_loss(predicted.float(), wanted.to(self.device), reduction="none")
        kept = noised.to(self.device, torch.float32)
        denoising = (errors.mean((1, 2, 3)) * kept).sum() / kept.sum().clamp(min=1)
        if self.teacher is None:
            return denoising, torch.zeros_like(denoising)
        return denoising, misalignment(seen, self.teacher.maps(batch))

    def _steps(
        self, count: int, random: torch.Generator
    ) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
        """Noise steps of crops, and whether each is there to be denoised."""
        settings = self.settings
        share = torch.rand(count, generator=random)
        t = (settings.t_below * share**settings.t_power).long()
        if self.teacher is None:
            return t, torch.ones(count, dtype=torch.bool)
        # Noise of step 0 can't be told from the image: such crops have the second task alone.
        noised = torch.rand(count, generator=random) >= settings.clean
        return t * noised, noised

    def latents(self, batch: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n c h2 w2"]:
        """Crops as the network takes them, without noise; on the CPU."""
        pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1
        return PixelEncoder(self.settings.unshuffle)(pixels).mean

    def noised(
        self, clean: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], t: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]]:
        """Latents with the noise of steps `t`, and the v that they ask for."""
        signal, sigma = (part[t][:, None, None, None] for part in self._factors())
        return signal * clean + sigma * noise, signal * noise - sigma * clean

    def _factors(self) -> tuple[Tensor, Tensor]:
        return self.levels.signal, self.levels.noise

    @torch.no_grad()
    def validate(self, average: nn.Module) -> tuple[float, ...]:
        """Losses of the averaged weights on crops of images that training never sees.

        Returns:
            That of denoising; and with a teacher, 1 - cosine with what it sees.
        """
        random = torch.Generator().manual_seed(self.settings.seed)
        size = min(self.settings.batch, _VALIDATION)
        starts = range(0, _VALIDATION - size + 1, size)
        losses = [
            torch.stack(self._losses(average, self.validation.batch(start, size), random))
            for start in starts
        ]
        denoising, alignment = torch.stack(losses).mean(0).tolist()
        return (denoising,) if self.teacher is None else (denoising, alignment)

    @torch.no_grad()
    def denoise(
        self, network: UNet2DModel, batch: UInt8[np.ndarray, "n h w 3"], t: int
    ) -> tuple[UInt8[np.ndarray, "n h w 3"], UInt8[np.ndarray, "n h w 3"]]:
        """Crops with the noise of step `t`, and what the network makes of them in one step."""
        random = torch.Generator().manual_seed(self.settings.seed + t)
        clean = self.latents(batch)
        steps = torch.full((len(batch),), t)
        noisy, _ = self.noised(clean, torch.randn(clean.shape, generator=random), steps)
        predicted = network(noisy.to(self.device), steps.to(self.device)).sample.float().cpu()
        signal, sigma = (float(part[t]) for part in self._factors())
        return self._pictures(noisy), self._pictures(signal * noisy - sigma * predicted)

    def _pictures(self, latents: Float[Tensor, "n c h w"]) -> UInt8[np.ndarray, "n h w 3"]:
        pixels = F.pixel_shuffle(latents, self.settings.unshuffle)
        values = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.asarray(values.permute(0, 2, 3, 1).contiguous().numpy())


def learning_rate(settings: PocketSettings, step: int) -> float:
    """Of a step: a line up, then half a cosine down to 0."""
    rise = min((step + 1) / max(settings.warmup, 1), 1.0)
    return settings.lr * rise * 0.5 * (1 + math.cos(math.pi * step / settings.steps))


def linear_levels() -> NoiseLevels:
    """DDPM's linear schedule, as the scheduler that is saved beside the weights has it."""
    from diffusers import DDIMScheduler

    alphas = DDIMScheduler(num_train_timesteps=STEPS).alphas_cumprod
    return NoiseLevels.of_diffusion(alphas.float())


def _follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move the averaged weights towards the network's by 1 - keep."""
    with torch.no_grad():
        for mean, value in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(value, 1 - keep)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
