"""Taking layers out of any network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from propagate.errors import InputError
from propagate.features.tap import Tap, list_layers
from propagate.types import Size


class Tokens(nn.Module):
    """A map to tokens in row order, with some before them."""

    def __init__(self, prefix: int, pair: bool = False) -> None:
        super().__init__()
        self.inner = nn.Identity()
        self.prefix, self.pair = prefix, pair

    def forward(self, x):
        tokens = self.inner(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.new_zeros(len(x), self.prefix, tokens.shape[2]), tokens], 1)
        return (torch.zeros(len(x), 5, 3), tokens) if self.pair else tokens


class Network(nn.Module):
    """Three blocks in a list, then a head that must never run."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 3, 3, stride, 1), nn.ReLU()) for stride in (1, 2, 2)
        )
        self.head = nn.Linear(3, 3)
        self.ran: list[int] = []

    def forward(self, x):
        for index, block in enumerate(self.blocks):
            self.ran.append(index)
            x = block(x)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))


SIZE = Size(8, 12)


def test_maps_come_in_the_order_named_and_nothing_runs_after_the_last(network, image):
    expected = [network.blocks[0](image)]
    expected.append(network.blocks[1](expected[0]))
    second, first = Tap(network, ["blocks.1", "blocks.0"])(lambda: network(image), SIZE)
    assert network.ran == [0, 1]
    assert torch.equal(first, expected[0])
    assert torch.equal(second, expected[1])


def test_an_inner_layer_can_be_named(network, image):
    expected = network.blocks[2][0](network.blocks[1](network.blocks[0](image)))
    (found,) = Tap(network, ["blocks.2.0"])(lambda: network(image), SIZE)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("pair", [False, True])
def test_tokens_become_maps(prefix, stride, pair):
    grid = (-(-9 // stride), -(-14 // stride))
    data = torch.randn(2, 4, *grid)
    network = nn.Sequential(Tokens(prefix, pair))
    (found,) = Tap(network, ["0"], prefix=prefix)(lambda: network(data), Size(9, 14))
    assert torch.equal(found, data)


def test_pruning_gives_up_what_is_not_reached_and_nothing_else(network, image):
    tap = Tap(network, ["blocks.1"])
    (before,) = tap(lambda: network(image), SIZE)
    tap.prune(lambda: network(image), SIZE)
    assert [type(block).__name__ for block in network.blocks] == ["Sequential"] * 2 + ["Identity"]
    assert isinstance(network.head, nn.Identity)
    (after,) = tap(lambda: network(image), SIZE)
    assert torch.equal(before, after)


def test_an_error_of_the_network_passes(network):
    with pytest.raises(RuntimeError, match="expected input"):
        Tap(network, ["blocks.0"])(lambda: network(torch.zeros(1, 7, 8, 8)), SIZE)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("block.1", "no layer 'block.1'; closest are blocks.1"),
        ("", "no layer ''; it has blocks, head"),
        ("zzz", "no layer 'zzz'; it has blocks, head"),
    ],
)
def test_a_layer_that_is_not_there(network, layer, message):
    with pytest.raises(InputError, match=message):
        Tap(network, [layer])


def test_a_layer_that_is_named_twice(network):
    with pytest.raises(InputError, match=r"named twice in blocks.0\+blocks.0; leave one out"):
        Tap(network, ["blocks.0", "blocks.0"])


def test_a_layer_that_gives_no_map(network, image):
    with pytest.raises(
        InputError, match=r"'head' gives \[2, 3\], which is no map of an input of 12"
    ):
        Tap(network, ["head"])(lambda: network(image), SIZE)


def test_a_layer_that_does_not_run(network, image):
    network.spare = nn.Identity()
    with pytest.raises(InputError, match="Layer 'spare' takes no part in computing features"):
        Tap(network, ["spare"])(lambda: network(image), SIZE)


def test_layers_are_listed_in_order_with_what_they_give(network, image):
    rows = list_layers(network, lambda: network(image), SIZE, pixels_per_unit=8)
    assert [(row.name, row.channels, row.stride) for row in rows] == [
        ("blocks.0", 3, 8),
        ("blocks.1", 3, 16),
        ("blocks.2", 3, 32),
    ]
