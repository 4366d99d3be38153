"""Where the random numbers of a diffusion model come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch

from propagate.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

NoiseKind = Literal["posterior", "diffusion"]

_STREAMS: dict[NoiseKind, int] = {"posterior": 0, "diffusion": 1}


class NoiseSource(Protocol):
    """Standard normal numbers for one ensemble member of one frame."""

    @property
    def identity(self) -> str:
        """What tells this source's numbers from another's."""
        ...

    def draw(self, kind: NoiseKind, *, frame: int, member: int, shape: tuple[int, ...]) -> Tensor:
        """float32 noise of `shape` on the CPU.

        Args:
            kind: "posterior" samples the latent of a VAE, "diffusion" is the forward process.
            frame: index of the frame in its clip.
            member: index of the ensemble member.
            shape: shape of one member's latent.
        """
        ...


@dataclass(frozen=True)
class SeededNoise:
    """Noise that depends on (seed, kind, frame, member) and shape, and on nothing else.

    So a map stays the same whatever the device, batch, order, resume or shard.

    Args:
        seed: 0 or more.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; it must be 0 or more.")

    @property
    def identity(self) -> str:
        """The seed."""
        return f"seed={self.seed}"

    def draw(self, kind: NoiseKind, *, frame: int, member: int, shape: tuple[int, ...]) -> Tensor:
        """See `NoiseSource.draw`."""
        key = (_STREAMS[kind], frame, member)
        bits = np.random.MT19937(np.random.SeedSequence(self.seed, spawn_key=key))
        # NumPy keeps RandomState's stream frozen for good (NEP 19), unlike Generator's and
        # torch's; and a torch CPU generator would use only 32 bits of the seed.
        values = np.random.RandomState(bits).standard_normal(shape)
        return torch.from_numpy(values.astype(np.float32))
