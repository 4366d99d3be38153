"""Takes feature maps out of any network by the names of its modules, and stops it there."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import nn

from propagate.errors import InputError
from propagate.features.card import LayerInfo
from propagate.types import Size

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Tap:
    """The outputs of some modules of a network, computed no further than the last of them.

    Forward hooks take the outputs and end the network's own, unchanged `forward`. Outputs may be
    maps [b, c, h, w], or tokens [b, n, c] in row order, which become maps; of several tensors (an
    image's and a text's tokens) the one that fits the image is taken.

    Args:
        network: any module.
        layers: names of modules in it, as `named_modules` has them.
        prefix: tokens before the image's own: class and register tokens.

    Raises:
        InputError: there is no such module; names the closest ones. Or one is named twice.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str], *, prefix: int = 0) -> None:
        self._network = network
        self._layers = tuple(layers)
        self._prefix = prefix
        self._found: dict[str, Any] = {}
        for name, module in zip(layers, find_modules(network, layers), strict=True):
            module.register_forward_hook(self._hook(name))

    def __call__(self, run: Callable[[], object], size: Size) -> list[Float[Tensor, "b c gh gw"]]:
        """The maps of the layers, in the order they were named.

        Args:
            run: calls the network.
            size: height and width of the network's input (image or latent), whose grid or a
                coarser one the tokens are on.

        Raises:
            InputError: a layer did not run, or gives nothing that lies on the image.
        """
        self._found.clear()
        with suppress(_AllFoundError):
            run()
        missing = [name for name in self._layers if name not in self._found]
        if missing:
            raise InputError(
                f"Layer {missing[0]!r} takes no part in computing features; choose another from "
                "`propagate models layers`."
            )
        outputs = [self._found[name] for name in self._layers]
        self._found.clear()
        return [
            _map_of(output, size, self._prefix, name)
            for output, name in zip(outputs, self._layers, strict=True)
        ]

    def prune(self, run: Callable[[], object], size: Size) -> None:
        """Give up all modules that come after the last layer, to free their memory.

        They are those that one pass does not reach. What lies inside a module that runs stays,
        since it may be used without being called; but for blocks in a list whose others run.
        """
        ran: set[nn.Module] = set()
        handles = [
            module.register_forward_pre_hook(lambda module, _: ran.add(module))
            for module in self._network.modules()
        ]
        try:
            self(run, size)
        finally:
            for handle in handles:
                handle.remove()
        _drop_unused(self._network, ran)

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def take(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._found[name] = output
            if len(self._found) == len(self._layers):
                _stop()

        return take


class _AllFoundError(Exception):
    """Ends a forward pass whose remaining part nobody needs."""


def _stop() -> NoReturn:
    raise _AllFoundError


def find_modules(network: nn.Module, layers: Sequence[str]) -> list[nn.Module]:
    """The modules of a network by their names.

    Raises:
        InputError: there is no such module; names the closest ones. Or one is named twice.
    """
    modules = dict(network.named_modules())
    if len(set(layers)) < len(layers):
        raise InputError(f"A layer is named twice in {'+'.join(layers)}; leave one out.")
    for name in layers:
        if name not in modules or not name:
            raise _no_such_layer(name, modules)
    return [modules[name] for name in layers]


def _no_such_layer(name: str, modules: dict[str, nn.Module]) -> InputError:
    close = difflib.get_close_matches(name, [known for known in modules if known], n=3)
    hint = f"closest are {', '.join(close)}" if close else f"it has {', '.join(_tops(modules))}"
    return InputError(
        f"The network has no layer {name!r}; {hint} (all: `propagate models layers MODEL`)."
    )


def _tops(modules: dict[str, nn.Module]) -> list[str]:
    return [name for name in modules if name and "." not in name]


def _drop_unused(network: nn.Module, ran: set[nn.Module]) -> None:
    for module in [
        part for part in network.modules() if part is network or _runs_in_part(part, ran)
    ]:
        for name, child in list(module.named_children()):
            # A list of blocks never runs itself; some of its items may.
            idle = not any(part in ran for part in child.modules())
            if idle and any(True for _ in child.parameters()):
                setattr(module, name, nn.Identity())


def _runs_in_part(module: nn.Module, ran: set[nn.Module]) -> bool:
    return isinstance(module, nn.ModuleList) and any(item in ran for item in module)


def _map_of(output: Any, size: Size, prefix: int, name: str) -> Float[Tensor, "b c gh gw"]:
    tensors = [item for item in _tensors(output) if item.is_floating_point()]
    for tensor in tensors:
        if tensor.ndim == 4:
            return tensor
        if tensor.ndim == 3:
            grid = _grid_of(tensor.shape[1] - prefix, size)
            if grid is not None:
                tokens = tensor[:, prefix:].transpose(1, 2)
                return tokens.reshape(*tokens.shape[:2], *grid)
    shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors) or "nothing"
    raise InputError(
        f"Layer {name!r} gives {shapes}, which is no map of an input of {size}; choose another "
        "from `propagate models layers`."
    )


def _grid_of(tokens: int, size: Size) -> Size | None:
    """The grid of `tokens` cells: the input's, or the one of a power-of-2 stride."""
    for stride in (2**power for power in range(8)):
        for grid in (
            Size(-(-size.height // stride), -(-size.width // stride)),
            Size(size.height // stride, size.width // stride),
        ):
            if grid.height * grid.width == tokens > 0:
                return grid
    return None


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, dict):
        yield from _tensors(tuple(output.values()))
    elif isinstance(output, (tuple, list)):
        # The image's tokens come last where a block returns text and image.
        for item in reversed(output):
            yield from _tensors(item)


def list_layers(
    network: nn.Module,
    run: Callable[[], object],
    size: Size,
    *,
    prefix: int = 0,
    pixels_per_unit: float = 1,
) -> list[LayerInfo]:
    """Every module that a `Tap` can take a map from, in the order they run.

    Blocks and what they are made of are listed, and projections to queries, keys and values; not
    the single convolutions, norms and activations inside.

    Args:
        network: may be on the meta device, where no weights are needed.
        run: calls the network.
        size: height and width of its input.
        prefix: as for `Tap`.
        pixels_per_unit: image pixels per unit of the network's input (8 for the latents of most
            VAEs).
    """
    names = {module: name for name, module in network.named_modules() if name}
    found: dict[str, LayerInfo] = {}

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        try:
            shape = _map_of(output, size, prefix, "").shape
        except InputError:
            return
        stride = size.width * pixels_per_unit / shape[3]
        found[names[module]] = LayerInfo(name=names[module], channels=shape[1], stride=stride)

    handles = [
        module.register_forward_hook(note)
        for module, name in names.items()
        if _worth_listing(module, name)
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def _worth_listing(module: nn.Module, name: str) -> bool:
    last = name.rsplit(".", 1)[-1]
    if last.startswith("norm") or ".ff." in name:
        return False
    return last in _PROJECTIONS or any(True for _ in module.children())


_PROJECTIONS = ("to_q", "to_k", "to_v", "q_proj", "k_proj", "v_proj", "query", "key", "value")


def compile_blocks(network: nn.Module, layers: Collection[str]) -> None:
    """Compile a network's blocks with `torch.compile`; graphs are kept by input shape.

    Block by block, since the hooks on tapped layers must stay outside of what is compiled: a block
    with a tapped layer inside runs as it is.

    Args:
        network: its lists of blocks, and other children with parts of their own, are compiled.
        layers: names of the tapped layers.
    """
    for name, child in network.named_children():
        named = child.named_children() if isinstance(child, nn.ModuleList) else [("", child)]
        for index, block in named:
            path = f"{name}.{index}".rstrip(".")
            tapped_inside = any(layer.startswith(f"{path}.") for layer in layers)
            if any(True for _ in block.children()) and not tapped_inside:
                block.forward = torch.compile(block.forward, dynamic=False)
