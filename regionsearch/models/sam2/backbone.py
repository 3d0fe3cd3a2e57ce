"""SAM 2's image encoder, run on pictures in batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from regionsearch.images import Image
from regionsearch.models.batching import run_halving
from regionsearch.models.runtime import Runtime
from regionsearch.models.sam2.image_features import (
    TOKENS_PER_IMAGE,
    PixelsRead,
    SamImageFeatures,
    encode_pixels,
    source_of,
)
from regionsearch.models.sam2.loading import LoadedSam2
from regionsearch.models.sam2.pixels import sam_pixels


class Sam2Backbone:
    """Features of pictures, from SAM's own pixels or from those that VIRTUE hands to SAM.

    With VIRTUE's, the source is the one of the features that the virtue embedder computes, so that SAM
    runs once an image for both. Safe to use from several threads.
    """

    def __init__(self, loaded: LoadedSam2, pixels: PixelsRead, runtime: Runtime) -> None:
        self._loaded = loaded
        self._pixels = pixels
        self._together = max(1, runtime.token_budget // TOKENS_PER_IMAGE)

    @property
    def source(self) -> str:
        return source_of(self._loaded, self._pixels)

    def features(self, images: Sequence[Image]) -> list[SamImageFeatures]:
        """Features of each image, with what masks need.

        Raises torch's OutOfMemoryError when a single image does not fit the device.
        """
        found: list[SamImageFeatures] = []
        for start in range(0, len(images), self._together):
            found.extend(run_halving(images[start : start + self._together], self._encode))
        return found

    def _encode(self, images: Sequence[Image]) -> list[SamImageFeatures]:
        sizes = [(image.height, image.width) for image in images]
        return encode_pixels(self._loaded, self._read(images), sizes, self.source, keep_high_res=True)

    def _read(self, images: Sequence[Image]) -> torch.Tensor:
        if self._pixels == "sam":
            return sam_pixels(images, self._loaded.device)
        # Imported here, because VIRTUE is built on this package.
        from regionsearch.models.virtue import preprocessing as virtue

        return torch.stack([virtue.sam_pixels(virtue.qwen_pixels(image)) for image in images])
