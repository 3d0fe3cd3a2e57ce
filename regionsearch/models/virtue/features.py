"""What VIRTUE computes once an image, before anything is pointed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from regionsearch.images import Image
from regionsearch.models.batching import run_halving
from regionsearch.models.features import DenseFeatures
from regionsearch.models.qwen2_vl.vision import vision_features
from regionsearch.models.sam2.image_features import TOKENS_PER_IMAGE, SamImageFeatures, encode_pixels
from regionsearch.models.sam2.loading import LoadedSam2
from regionsearch.models.virtue.network import VirtueNetwork
from regionsearch.models.virtue.preprocessing import qwen_pixels, sam_pixels


@dataclass(frozen=True, eq=False)
class VirtueFeatures:
    """tokens: (n, hidden), the picture for the language model. sam: for SAM's decoder, and for a
    segmenter that works on the same ones. Both lie on the device."""

    source: str
    tokens: torch.Tensor
    sam: SamImageFeatures

    def part(self, source: str) -> DenseFeatures | None:
        if source == self.source:
            return self
        return self.sam.part(source)


class VirtueBackbone:
    """The vision tower and SAM's image encoder, once an image each.

    square: pictures are squared first, as for the published tables. sam_source: what SAM's features
    are called, so that a segmenter knows whether they are its own.
    """

    def __init__(
        self,
        network: VirtueNetwork,
        sam: LoadedSam2,
        *,
        source: str,
        sam_source: str,
        square: bool,
        token_budget: int,
    ) -> None:
        self._network = network
        self._sam = sam
        self._source = source
        self._sam_source = sam_source
        self._square = square
        self._budget = token_budget

    @property
    def source(self) -> str:
        return self._source

    def features(self, images: Sequence[Image]) -> list[VirtueFeatures]:
        """Raises torch's OutOfMemoryError when a single image does not fit the device."""
        with torch.inference_mode():
            # With what a segmenter needs, too: it is not known here whether there is one that shares.
            return self.compute(images, keep_high_res=True)

    def compute(self, images: Sequence[Image], *, keep_high_res: bool) -> list[VirtueFeatures]:
        """As `features`, with gradients as the caller has them: tensors made in inference mode can take
        no part in training."""
        pictures = [qwen_pixels(image, square=self._square) for image in images]
        tokens = vision_features(self._network.visual, pictures, self._budget)

        def encode(places: Sequence[int]) -> list[SamImageFeatures]:
            pixels = torch.stack([sam_pixels(pictures[place]) for place in places])
            sizes = [(images[place].height, images[place].width) for place in places]
            return encode_pixels(self._sam, pixels, sizes, self._sam_source, keep_high_res)

        seen: list[SamImageFeatures] = []
        together = max(1, self._budget // TOKENS_PER_IMAGE)
        for start in range(0, len(pictures), together):
            seen.extend(run_halving(range(start, min(start + together, len(pictures))), encode))
        return [VirtueFeatures(self._source, token, sam) for token, sam in zip(tokens, seen, strict=True)]
