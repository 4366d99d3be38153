"""Batches within a memory budget, and what happens when memory runs out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from propagate.errors import ModelError
from propagate.features.batching import Batches, activation_growth, fitting_weights

CPU = torch.device("cpu")


class Memory:
    """A function that fails for more than `room` inputs at once."""

    def __init__(self, room: int, error: type[Exception] = MemoryError, text: str = "") -> None:
        self.room, self.error, self.text = room, error, text
        self.sizes: list[int] = []

    def __call__(self, chunk: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(chunk))
        if len(chunk) > self.room:
            raise self.error(self.text)
        return chunk * 2


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 50))
def test_all_inputs_come_out_once_and_in_order(count, size, room):
    items = torch.arange(count)[:, None]
    memory, notes = Memory(room), []
    batches = Batches(CPU, 1, size=size, notify=notes.append)
    results = torch.cat(list(batches.run(memory, items)))
    assert torch.equal(results, items * 2)
    assert len(notes) == (min(size, count) > room)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError, ""),
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2 GiB"),
        (RuntimeError, "[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried"),
        (RuntimeError, "MPS backend out of memory"),
    ],
)
def test_halved_for_good_and_said_once(error, text):
    memory, notes = Memory(3, error, text), []
    batches = Batches(CPU, 1, size=8, what="images", notify=notes.append)
    list(batches.run(memory, torch.zeros(8, 1)))
    list(batches.run(memory, torch.zeros(8, 1)))
    assert memory.sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    (note,) = notes
    assert note.startswith("Out of memory: images now go through the network 4 at a time; --batch-")


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(Batches(CPU, 1, size=2).run(Memory(1, RuntimeError, "shapes differ"), torch.zeros(2)))


def test_not_even_one_fits():
    with pytest.raises(ModelError, match="not enough memory for one of the images at a time; choo"):
        list(Batches(CPU, 1, size=2, what="images").run(Memory(0), torch.zeros(2, 1)))


def test_weights_that_do_not_fit_are_told_as_such():
    with (
        pytest.raises(
            ModelError, match="weights of sd21 do not fit into the memory of cpu; choose"
        ),
        fitting_weights("sd21", CPU),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="no kernel"), fitting_weights("sd21", CPU):
        raise RuntimeError("no kernel")


def test_a_budget_decides_the_size():
    assert Batches(CPU, 10).size(10**6) == 1
    assert Batches(CPU, 10, budget=1.0).size(10**7) == 10
    assert Batches(CPU, 10, budget=1.0).size(10**12) == 1
    assert Batches(CPU, 10, budget=1.0, size=3).size(10**7) == 3


def test_the_note_goes_to_the_log_unless_said_otherwise(caplog):
    list(Batches(CPU, 1, size=2).run(Memory(1), torch.zeros(2, 1)))
    assert "Out of memory" in caplog.text


def test_growth_follows_the_largest_layer():
    network = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Conv2d(64, 2, 1))
    image = torch.zeros(1, 3, 10, 10)
    growth = activation_growth(network, lambda: network(image), image.numel())
    assert growth == pytest.approx(6 * 64 * 4 / 3)
