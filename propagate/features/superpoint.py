"""SuperPoint: places that are found again in another picture of a scene, and their descriptors.

Source: DeTone, Malisiewicz and Rabinovich, "SuperPoint: Self-Supervised Interest Point Detection
and Description", CVPR Workshops 2018, as transformers has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812, the field's usual name
from transformers import SuperPointConfig, SuperPointForKeypointDetection

from propagate.config import ModelOptions
from propagate.errors import ModelError
from propagate.features.batching import fitting_weights
from propagate.features.device import dtype_name, resolve_device, resolve_dtype
from propagate.features.frames import finite_map
from propagate.features.registry import locate
from propagate.features.sizing import input_size
from propagate.features.vision.loading import is_pickled, load_pretrained, read_any_config
from propagate.geometry import resize_rgb
from propagate.types import FeatureMap, Frame

if TYPE_CHECKING:
    from jaxtyping import Float, Float64, UInt8
    from torch import Tensor

    from propagate.features.hub import ResolvedModel

CELL = 8
"""Pixels of a side of the network's cells."""


class SuperPoint:
    """The network: keypoints of a picture, and a map of descriptors.

    Args:
        files: a folder as `save_pretrained` of transformers writes it.
        device: where it runs.
        dtype: what it computes in.

    Raises:
        ModelError: it is another model, its weights are damaged or not safetensors.
    """

    def __init__(
        self, files: ResolvedModel, *, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        config = read_any_config(files)
        if not isinstance(config, SuperPointConfig):
            raise ModelError(
                f"{files.name} is a {config.model_type}, not a superpoint; name the folder or "
                "repository of SuperPoint's weights."
            )
        if is_pickled(files):
            raise ModelError(
                f"{files.name} has pickled weights only, which are refused; save the model again "
                "with `safe_serialization=True`."
            )
        network = load_pretrained(files, SuperPointForKeypointDetection, config, dtype)
        with fitting_weights(files.name, device):
            # Its parts are called one by one, because the whole fails where nothing is found.
            self._network: Any = network.to(device)
        self._border = int(config.border_removal_distance)
        self._device, self._dtype = device, dtype
        self.identity = f"superpoint {files.identity} {dtype_name(dtype)}"

    @torch.inference_mode()
    def keypoints(self, rgb: UInt8[np.ndarray, "h w 3"], count: int) -> Float64[np.ndarray, "n 2"]:
        """The places with the highest scores, in a greyscale picture of the size it has.

        Args:
            rgb: the picture.
            count: the most places.

        Returns:
            (x, y) in pixels from the outer corner of the top-left pixel, the best first; at least
            4 pixels from the border and from each other with the published weights.
        """
        height, width = rgb.shape[:2]
        if min(height, width) < CELL:
            return np.zeros((0, 2))
        found, scores = self._network.keypoint_decoder(self._encoded(rgb))
        xy, scores = found.double().cpu().numpy(), scores.float().cpu().numpy()
        # transformers takes the picture for eight times as large when it cuts off the border.
        least, most = self._border, np.array([width, height]) - self._border
        inside = ((xy >= least) & (xy < most)).all(axis=1)
        xy, scores = xy[inside], scores[inside]
        best = np.argsort(-scores, kind="stable")[:count]
        chosen: Float64[np.ndarray, "n 2"] = xy[best] + 0.5
        return chosen

    @torch.inference_mode()
    def descriptors(self, rgb: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "c gh gw"]:
        """A unit vector for each cell of 8 x 8 pixels, float32."""
        decoder = self._network.descriptor_decoder
        taken: list[Tensor] = []
        hook = decoder.conv_descriptor_b.register_forward_hook(
            lambda _module, _inputs, output: taken.append(output)
        )
        try:
            # It asks for a keypoint; the map is made before it looks at any.
            decoder(self._encoded(rgb), torch.zeros(1, 1, 2, device=self._device).to(self._dtype))
        finally:
            hook.remove()
        return F.normalize(taken[0][0].float(), dim=0)

    def _encoded(self, rgb: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 c gh gw"]:
        grey = torch.from_numpy(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)).to(self._device)
        encoded: Tensor = self._network.encoder((grey.float() / 255).to(self._dtype)[None, None])[0]
        return encoded


class SuperPointExtractor:
    """Its descriptors as features, with cells of 8 pixels.

    Args:
        files: see `SuperPoint`.
        options: complete options.

    Raises:
        ModelError: see `SuperPoint`.
    """

    batch_size = 1

    def __init__(self, files: ResolvedModel, options: ModelOptions) -> None:
        device = resolve_device(options.device)
        self._dtype = resolve_dtype(options.dtype, device)
        self._network = SuperPoint(files, device=device, dtype=self._dtype)
        self._size = input_size(options, multiple=CELL)

    @property
    def identity(self) -> str:
        """Weights, type and input size."""
        return f"{self._network.identity} {self._size}"

    def extract(self, frames: Sequence[Frame]) -> list[FeatureMap]:
        """Maps [256, gh, gw] of unit cells, float32 on the device.

        Raises:
            ModelError: the features are not finite, as can happen in fp16.
        """
        return [self._extract_one(frame) for frame in frames]

    def _extract_one(self, frame: Frame) -> FeatureMap:
        size = self._size.of(frame.size)
        data = self._network.descriptors(resize_rgb(frame.rgb, size))
        return finite_map(data, frame, size, self._dtype)


@lru_cache(maxsize=1)
def load_superpoint(
    model: str = "superpoint", *, device: str = "auto", offline: bool = False
) -> SuperPoint:
    """The network, in float32; a second call with the same arguments loads nothing.

    Args:
        model: name, folder or hub repository of the weights.
        device: see `resolve_device`.
        offline: never use the network.

    Raises:
        ModelError: the weights are not to be had, damaged, or of another model.
    """
    return SuperPoint(locate(model, offline=offline).files, device=resolve_device(device))
