"""Top-k voting without a window: every query looks at every key, of grids of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from propagate.errors import InputError
from propagate.types import FeatureMap

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import Tensor

# Similarities held at once: 4 million float32 are 16 MB.
_BLOCK = 1 << 22


class Votes(NamedTuple):
    """What the keys say of each query.

    Args:
        labels: float32 [q, k], mean labels of the voters.
        similarity: float32 [q], their mean cosine; both weighted by exp(cosine / temperature).
    """

    labels: Float32[Tensor, "q k"]
    similarity: Float32[Tensor, " q"]


def vote_everywhere(
    queries: Float32[Tensor, "q c"],
    keys: Float32[Tensor, "n c"],
    labels: Float32[Tensor, "n k"],
    *,
    topk: int,
    temperature: float,
) -> Votes:
    """Labels of the `topk` most similar keys, weighted by exp(cosine / temperature).

    Exact, with some queries at a time, so that memory beside the arguments and the result does not
    grow with the number of queries. Keys that tie with the k-th one all vote.

    Args:
        queries: unit norm.
        keys: unit norm.
        labels: of each key.
        topk: how many keys vote; all of them when there are fewer.
        temperature: of the weights.

    Raises:
        InputError: there is no key, or the vectors differ in length.
    """
    if not len(keys) or keys.shape[1] != queries.shape[1]:
        raise InputError(
            f"The queries have {queries.shape[1]} channels and the keys are {list(keys.shape)}; "
            "take one or more keys of the same extractor."
        )
    rows = max(_BLOCK // len(keys), 1)
    parts = [
        _vote(part @ keys.T, labels, min(topk, len(keys)), temperature)
        for part in torch.split(queries, rows)
    ]
    return Votes(torch.cat([p.labels for p in parts]), torch.cat([p.similarity for p in parts]))


def _vote(
    cosine: Float32[Tensor, "q n"], labels: Float32[Tensor, "n k"], topk: int, temperature: float
) -> Votes:
    best = cosine.topk(topk, dim=1).values
    weights = (cosine - best[:, :1]).div_(temperature).exp_()
    weights.masked_fill_(cosine < best[:, -1:], 0)
    weights /= weights.sum(1, keepdim=True)
    return Votes(weights @ labels, (weights * cosine).sum(1))


def centred(features: FeatureMap) -> FeatureMap:
    """The map less its mean over the image, with unit norm.

    What all cells of an image share (its light, its style) makes two images similar everywhere;
    without it the parts of objects decide.
    """
    data = features.normalised(torch.float32).data
    data = data - data.mean((1, 2), keepdim=True)
    return FeatureMap(data, features.image_size, features.input_size).normalised(torch.float32)


def cells(features: FeatureMap) -> Float32[Tensor, "n c"]:
    """The vectors of a map, row by row."""
    return features.data.permute(1, 2, 0).flatten(0, 1)
