"""Devices and types by name, on machines that have them and on those that have not."""

from __future__ import annotations

import pytest
import torch

from propagate.errors import InputError
from propagate.features import device as module
from propagate.features.device import dtype_name, resolve_device, resolve_dtype

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch):
    """Pretend that this machine has these kinds of device, and this many GPUs."""

    def pretend(*kinds: str, gpus: int = 0) -> None:
        for kind in module._AVAILABLE:
            monkeypatch.setitem(module._AVAILABLE, kind, lambda has=kind in kinds: has)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)

    return pretend


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [(("cpu",), "cpu"), (("cpu", "mps"), "mps"), (("cpu", "mps", "cuda"), "cuda")],
)
def test_auto_prefers_the_fastest_device(machine, kinds, expected):
    machine(*kinds)
    assert resolve_device("auto") == torch.device(expected)


def test_a_device_that_exists_is_taken_as_named(machine):
    machine("cpu", "cuda", gpus=2)
    assert resolve_device("cpu") == CPU
    assert resolve_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:x", ""])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(InputError, match=f"device is '{name}'; it must be 'auto', 'cpu', 'mps'"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_refused(machine, name):
    machine("cpu")
    with pytest.raises(InputError, match=f"has no {name}; use 'auto' or 'cpu'"):
        resolve_device(name)


def test_a_gpu_that_is_not_here_is_refused(machine):
    machine("cpu", "cuda", gpus=2)
    with pytest.raises(InputError, match=r"'cuda:2', but this machine has 2 GPU\(s\), numbered"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("native", [True, False])
def test_auto_type_follows_native_bfloat16(monkeypatch, native):
    monkeypatch.setattr(module, "_cpu_has_bf16", lambda: native)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    cpu, cuda = (torch.bfloat16,) * 2 if native else (torch.float32, torch.float16)
    assert resolve_dtype("auto", CPU) == cpu
    assert resolve_dtype("auto", torch.device("cuda")) == cuda
    assert resolve_dtype("auto", torch.device("mps")) == torch.float32


def test_the_query_for_native_bfloat16_works_with_this_torch():
    assert resolve_dtype("auto", CPU) in (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_names_and_types_go_both_ways(name):
    assert dtype_name(resolve_dtype(name, CPU)) == name


def test_an_unknown_type_is_refused():
    with pytest.raises(InputError, match="dtype is 'half'; it must be one of auto, fp32, bf16"):
        resolve_dtype("half", CPU)
