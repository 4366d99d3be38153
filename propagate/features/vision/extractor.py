"""Feature maps of a vision model of transformers: a ViT, a Swin, a ConvNeXt, a ResNet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from propagate.config import ModelOptions
from propagate.errors import InputError
from propagate.features.batching import (
    Batches,
    Notify,
    activation_growth,
    fitting_weights,
    notify_by_log,
)
from propagate.features.device import dtype_name, resolve_device, resolve_dtype
from propagate.features.frames import finite_map, pixel_batch
from propagate.features.fusion import fuse_maps
from propagate.features.sizing import input_size
from propagate.features.tap import Tap, compile_blocks
from propagate.features.vision.architecture import describe
from propagate.features.vision.calling import first_line, needing_no_more, see
from propagate.features.vision.choice import Layer, choose_layers
from propagate.features.vision.loading import load_network, read_normalisation
from propagate.features.vision.sizes import LongSideSize
from propagate.types import FeatureMap, Frame, Size

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

    from propagate.features.hub import ResolvedModel
    from propagate.features.vision.architecture import Architecture
    from propagate.geometry import InputSize

_TYPICAL = Size(480, 854)
# Of DINO's own code; its conversion for transformers has 1e-12 in the configuration.
_DINO_EPSILON = 1e-6


class VisionExtractor:
    """Outputs of blocks, or of any module, on the grid of the network's cells.

    Numbers name the blocks from 0: of a ViT its transformer blocks (the last if none is named), of
    Swin, ConvNeXt and ResNet their stages (the last but one). `facet` takes a block's queries,
    keys or values instead of its tokens. The final norm is applied to tokens of DINO, DINOv2 and
    DINOv3, whatever the block, as they are published; not to those of CLIP and SigLIP, nor to
    what is named as a module. Class and register tokens are left out. Several layers joined by "+"
    are fused with equal weights.

    The network runs no further than its last tapped layer, and what comes after it is given up.

    Args:
        files: a folder as `save_pretrained` of transformers writes it.
        options: complete options.
        dino: whether the weights are DINO's first ones, whose original code has an epsilon of
            1e-6 in its norms, and floors the long side alone to a multiple of 64.
        notify: receives a note when memory runs out.

    Raises:
        ModelError: the weights are damaged, incomplete, or of no vision model.
        InputError: a layer, facet or size that the network does not have.
    """

    def __init__(
        self,
        files: ResolvedModel,
        options: ModelOptions,
        *,
        dino: bool = False,
        notify: Notify = notify_by_log,
    ) -> None:
        self._name = files.name
        self._device = resolve_device(options.device)
        self._dtype = resolve_dtype(options.dtype, self._device)
        epsilon = _DINO_EPSILON if dino else None
        network = load_network(files, self._dtype, layer_norm_eps=epsilon)
        self._normalise = read_normalisation(files)
        self._architecture = describe(network)
        self._facet = options.facet or "token"
        self._layers = choose_layers(network, self._architecture, options.layer, self._facet)
        self._size = _sizes(options, self._architecture, dino=dino)
        modules = [layer.module for layer in self._layers]
        self._tap = Tap(network, modules, prefix=self._architecture.prefix)
        norm = self._architecture.norm
        self._norm = nn.Identity() if norm is None else network.get_submodule(norm)
        with fitting_weights(self._name, self._device):
            self._network = network.to(self._device)
        self._batches = self._probe(options, notify)
        if options.compile:
            _compile(network, self._architecture, modules)
        self._files_identity = files.identity

    @property
    def identity(self) -> str:
        """Weights, layers with their norm, facet, input size and type."""
        return self._identity(self._layers)

    def layer_identity(self, index: int) -> str:
        """See `LayeredExtractor`."""
        return self._identity(self._layers[index : index + 1])

    def _identity(self, chosen: Sequence[Layer]) -> str:
        names = (f"{layer.module}{'/norm' if layer.normed else ''}" for layer in chosen)
        layers = "+".join(names)
        return (
            f"vision {self._files_identity} layer={layers} facet={self._facet} {self._size} "
            f"{dtype_name(self._dtype)}"
        )

    @property
    def batch_size(self) -> int:
        """How many frames of 854x480 go through the network at once."""
        height, width = self._size.of(_TYPICAL)
        return self._batches.size(3 * height * width)

    @torch.inference_mode()
    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Feature maps of `frames`, in order: float32 [c, gh, gw] on the device.

        Maps of several layers are fused, with unit cells.

        Raises:
            InputError: the network's input would be too small.
            ModelError: the features are not finite, as can happen in fp16; or no memory is left.
        """
        return [fuse_maps(layers) for layers in self.extract_layers(frames)]

    @torch.inference_mode()
    def extract_layers(self, frames: Sequence[Frame]) -> list[list[FeatureMap]]:
        """See `LayeredExtractor`; raises as `extract`."""
        if not frames:
            return []
        size = self._size.of(frames[0].size)
        if min(size) < self._architecture.least:
            raise InputError(
                f"The network's input would be {size} pixels; both sides must be at least "
                f"{self._architecture.least}, so choose a larger input size."
            )
        per_frame = [
            layers
            for chunk in self._batches.run(
                self._maps, pixel_batch(frames, size, self._size.resizing)
            )
            for layers in zip(*chunk, strict=True)
        ]
        return [
            [finite_map(layer, frame, size, self._dtype) for layer in layers]
            for frame, layers in zip(frames, per_frame, strict=True)
        ]

    def _maps(self, pixels: UInt8[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c gh gw"]]:
        """One map for each layer, in float32."""
        inputs = self._normalise(pixels.to(self._device).float()).to(self._dtype)
        with self._fitting(inputs):
            maps = self._checked(lambda: see(self._network, inputs), inputs)
        result = []
        for layer, data in zip(self._layers, maps, strict=True):
            if layer.normed:
                data = self._norm(data.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            result.append(data.float())
        return result

    def _checked(
        self, run: Callable[[], object], inputs: Float[Tensor, "b 3 h w"]
    ) -> list[Float[Tensor, "b c gh gw"]]:
        """The layers' maps of a run on `inputs`.

        Raises:
            InputError: what has four axes is no map of each image: windows, or channels last.
        """
        size = Size(inputs.shape[2], inputs.shape[3])
        maps = self._tap(run, self._architecture.grid(size))
        for layer, data in zip(self._layers, maps, strict=True):
            if not self._architecture.is_map(data, images=len(inputs), size=size):
                raise InputError(
                    f"Layer {layer.module!r} gives {list(data.shape)} for {len(inputs)} image(s) "
                    f"of {size}, which is no map of each; choose another from `propagate models "
                    "layers`."
                )
        return maps

    @contextmanager
    def _fitting(self, inputs: Float[Tensor, "b 3 h w"]) -> Iterator[None]:
        """Say of a network that has no numbers what it fails for: most likely the size."""
        try:
            yield
        except (ValueError, RuntimeError) as error:
            size = Size(inputs.shape[2], inputs.shape[3])
            if self._architecture.blocks or size == self._architecture.native:
                raise
            if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error):
                raise
            raise InputError(
                f"{self._name} can't take an input of {size} ({first_line(error)}); choose another "
                f"size, such as the {self._architecture.native} it was trained with."
            ) from error

    @torch.inference_mode()
    def _probe(self, options: ModelOptions, notify: Notify) -> Batches:
        """One pass over a small black image: checks the layers, prunes, and sizes batches."""
        shape = self._architecture
        side = max(2 * shape.multiple, shape.least)
        size = Size(side, side) if shape.blocks else shape.native
        image = torch.zeros(1, 3, *size, dtype=self._dtype, device=self._device)

        def run() -> object:
            return see(self._network, image)

        with needing_no_more(self._name):
            self._tap.prune(run, shape.grid(size))
        growth = activation_growth(self._network, lambda: self._checked(run, image), image.numel())
        return Batches(
            self._device,
            growth,
            size=options.batch_size,
            budget=options.memory,
            what="frames",
            notify=notify,
        )


def _sizes(options: ModelOptions, architecture: Architecture, *, dino: bool) -> InputSize:
    size = input_size(options, multiple=architecture.multiple)
    if size.exact is not None and any(side % size.multiple for side in size.exact):
        raise InputError(
            f"input_size is {size.exact}; for a {architecture.kind} like this both sides must be "
            f"multiples of {size.multiple}."
        )
    if dino:
        return LongSideSize(**vars(size))
    return size


def _compile(network: nn.Module, architecture: Architecture, layers: Sequence[str]) -> None:
    """Compile the lists that numbered blocks stand in, or all where there are no numbers."""
    parents = {
        name.rsplit(".", 2)[0] if name.count(".") > 1 else "" for name in architecture.blocks
    }
    for parent in sorted(parents or {""}):
        start = f"{parent}." if parent else ""
        inside = [layer.removeprefix(start) for layer in layers if layer.startswith(start)]
        compile_blocks(network.get_submodule(parent), inside)
