"""Where a network runs and in which floating-point type."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import torch

from propagate.config import Precision
from propagate.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes a CUDA GPU, else Apple's MPS, else the CPU.

    Args:
        name: "auto", "cpu", "mps", "cuda" or "cuda:N".

    Raises:
        InputError: the name is not a device, or this machine has no such device.
    """
    if name == "auto":
        return torch.device(next(kind for kind, has in _AVAILABLE.items() if has()))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in _AVAILABLE:
        raise InputError(
            f"device is {name!r}; it must be 'auto', 'cpu', 'mps', 'cuda' or 'cuda:N'."
        )
    if not _AVAILABLE[device.type]():
        raise InputError(
            f"device is {name!r}, but this machine (or this build of torch) has no "
            f"{device.type}; use 'auto' or 'cpu'."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device is {name!r}, but this machine has {torch.cuda.device_count()} GPU(s), "
            "numbered from 0."
        )
    return device


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The type called `name`; "auto" takes bfloat16 where `device` computes in it natively.

    Elsewhere "auto" is float16 on CUDA and float32 on the CPU and MPS.

    Raises:
        InputError: the name is not one of "auto", "fp32", "bf16", "fp16".
    """
    check_dtype_name(name)
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "cpu" and _cpu_has_bf16():
        return torch.bfloat16
    return torch.float32


def check_dtype_name(name: str) -> None:
    """Raise InputError unless `name` is a `Precision`."""
    if name not in get_args(Precision):
        raise InputError(f"dtype is {name!r}; it must be one of {', '.join(get_args(Precision))}.")


def dtype_name(dtype: torch.dtype) -> str:
    """The short name of a type that `resolve_dtype` gives."""
    return next(name for name, known in _DTYPES.items() if known == dtype)


def _cpu_has_bf16() -> bool:
    # torch has no public query; get_cpu_capability() doesn't tell AVX512 from AVX512-BF16.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


# In order of preference.
_AVAILABLE: dict[str, Callable[[], bool]] = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}
