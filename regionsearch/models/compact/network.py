"""The one dense pass over an image that the compact embedder and segmenter share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from regionsearch.images import Image
from regionsearch.models.compact.network_graph import LEVELS, build_graph
from regionsearch.models.compact.network_session import NetworkSession
from regionsearch.models.compact.torch_file import read_tensors
from regionsearch.models.compact.weights import IMAGE_NETWORKS, VARIANT, read_verified

STRIDE = 32
"""Input pixels to one cell of the last map; both sides of the input are multiples of it."""
LONGEST_SIDE = 512
"""Of the network's input, pixels."""
SHORTEST_LONGEST_SIDE = 256
"""Smaller pictures are enlarged to this: below, the last map has too few cells to tell things apart."""
PREPROCESSING = 1
"""Version of everything between pixels and network; raised when its outputs change."""


@dataclass(frozen=True, eq=False)
class CompactFeatures:
    """What one pass of the network over an image leaves; float32 throughout.

    source: which network, weights and preprocessing made it.
    height, width: of the image, pixels. input_size: (h, w) of the network's input, multiples of 32;
        the whole image is squeezed into it, so that position (x, y) of the image is (x · w / width,
        y · h / height) of the input.
    levels: by LEVELS (2, 4, 7, 10, 14, 15), (c, h / s, w / s) with s = 4, 8, 16, 16, 32, 32 and
        c = 24, 40, 80, 112, 192, 320 in Lite0, 24, 48, 88, 120, 208, 352 in Lite2.
    last: (1280, h / 32, w / 32), never below 0, what the classifier pools.
    """

    source: str
    height: int
    width: int
    input_size: tuple[int, int]
    levels: Mapping[int, NDArray[np.float32]]
    last: NDArray[np.float32]

    def part(self, source: str) -> CompactFeatures | None:
        return self if source == self.source else None


class CompactNetwork:
    """EfficientNet-Lite with ImageNet weights, on ONNX Runtime (why: docs/compact.md).

    Safe to use from several threads. Raises ModelUnavailable when the weights are missing or
    are not the expected ones.

    threads: cores used inside one call; None: all physical ones.
    variant: `lite0` or `lite2`. longest_side: of the network's input, pixels, a multiple of 32.
    """

    def __init__(
        self, threads: int | None = None, variant: str = VARIANT, longest_side: int = LONGEST_SIDE
    ) -> None:
        weights = IMAGE_NETWORKS[variant]
        self.weights_hash = weights.sha256
        self._source = f"efficientnet-{variant}/{weights.sha256[:16]}/{longest_side}px/{PREPROCESSING}"
        self._longest_side = longest_side
        state = read_tensors(read_verified(weights))
        self._session = NetworkSession(build_graph(state, variant), threads)
        self.classifier_weight: NDArray[np.float32] = state["_fc.weight"]
        """(1000, 1280): from the pooled last map to the ImageNet classes' logits."""
        self.classifier_bias: NDArray[np.float32] = state["_fc.bias"]
        """(1000,)"""

    @property
    def source(self) -> str:
        return self._source

    def features(self, images: Sequence[Image]) -> list[CompactFeatures]:
        """Features of each image; several images are computed side by side, one on each core."""
        inputs = [network_input(image, self._longest_side) for image in images]
        return [
            CompactFeatures(
                source=self.source,
                height=image.height,
                width=image.width,
                input_size=(int(values.shape[1]), int(values.shape[2])),
                levels=dict(zip(LEVELS, levels, strict=True)),
                last=last,
            )
            for image, values, (*levels, last) in zip(images, inputs, self._session.run(inputs), strict=True)
        ]

    def pooled(self, images: Sequence[Image], longest_side: int) -> NDArray[np.float32]:
        """(n, 1280): the mean of the last map of each image, its input brought to `longest_side` pixels,
        whatever its own size."""
        inputs = [network_input(image, longest_side) for image in images]
        return np.stack([maps[-1].mean(axis=(1, 2)) for maps in self._session.run(inputs)])

    def logits(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 1280) vectors pooled from last maps → (n, 1000) logits of the ImageNet classes."""
        return pooled @ self.classifier_weight.T + self.classifier_bias


def input_size(height: int, width: int, longest_side: int = LONGEST_SIDE) -> tuple[int, int]:
    """(h, w) of the network's input for an image of this size: its aspect as near as multiples of 32
    come, the longest side 256 to `longest_side` pixels."""
    longest = max(height, width)
    scale = min(max(longest, SHORTEST_LONGEST_SIDE), longest_side) / longest
    return _rounded(height * scale), _rounded(width * scale)


def network_input(image: Image, longest_side: int = LONGEST_SIDE) -> NDArray[np.float32]:
    """(3, h, w) float32 of `input_size`: RGB, (value - 127) / 128, as the weights were fitted."""
    height, width = input_size(image.height, image.width, longest_side)
    # Pillow's filter widens with the reduction, so that fine texture does not alias.
    resized = PIL.Image.fromarray(image.pixels).resize((width, height), PIL.Image.Resampling.BILINEAR)
    values = np.asarray(resized, dtype=np.float32).transpose(2, 0, 1)
    return np.ascontiguousarray((values - 127.0) / 128.0, dtype=np.float32)


def _rounded(side: float) -> int:
    return max(STRIDE, round(side / STRIDE) * STRIDE)
