"""CLIP, SigLIP and SigLIP 2 as embedders: words and pixels in one space, regions from one pass.

docs/dual-encoder.md says which checkpoints fit, how regions are read and where the methods come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.crops import crop_with_context
from regionsearch.models.dual_encoder.settings import Family, Settings
from regionsearch.models.dual_encoder.text import TextNetwork
from regionsearch.models.dual_encoder.vision import PatchFeatures, VisionNetwork
from regionsearch.models.embedder import (
    EmbedderInfo,
    EncodableQuery,
    ImageVectors,
    InputRole,
    ModelInput,
    QueryVectors,
    SignalBackground,
    Vector,
)
from regionsearch.models.features import DenseFeatures
from regionsearch.models.plain_inputs import embed_plain_inputs, plain_query
from regionsearch.regions import Mask

PREPROCESSING = 1
"""Version of what is between pixels or words and the networks, and between patches and regions; raised
when vectors change."""

_CLIP = {
    "entity": SignalBackground(0.70, 0.10),
    "global": SignalBackground(0.52, 0.10),
    "text_entity": SignalBackground(0.20, 0.03),
    "text_image": SignalBackground(0.18, 0.03),
}
_SIGLIP = {
    "entity": SignalBackground(0.70, 0.10),
    "global": SignalBackground(0.52, 0.12),
    "text_entity": SignalBackground(0.03, 0.03),
    "text_image": SignalBackground(0.00, 0.03),
}
BACKGROUNDS: Mapping[Family, Mapping[str, SignalBackground]] = {
    "clip": _CLIP,
    "siglip": _SIGLIP,
    "siglip2": _SIGLIP,
}
"""Chosen, not measured: they serve collections of fewer than 50 images. The orders of magnitude are those of
the losses: CLIP's softmax leaves unrelated pairs of image and text at cosines about 0.2, SigLIP's sigmoid,
with its learnt bias, at about 0. Two photos with nothing in common are far from orthogonal in either. The
entity signals are the best of an image's entities, and so a little higher."""


class DualEncoder:
    """Embeds with one checkpoint. Safe to use from several threads.

    An instruction beside pixels cannot be read together with them: the text has a vector of its own, and
    the arms of the search are asked the sum of both.
    """

    def __init__(
        self,
        name: str,
        family: Family,
        settings: Settings,
        vision: VisionNetwork,
        text: TextNetwork,
        *,
        weights: str,
        dimension: int,
    ) -> None:
        self._settings = settings
        self._vision = vision
        self._text = text
        self._info = EmbedderInfo(
            fingerprint=Fingerprint(
                name=name, weights=weights, dimension=dimension, preprocessing=PREPROCESSING
            ),
            accepts=frozenset({"text", "image", "mask", "instruction"}),
            background=BACKGROUNDS[family],
        )

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    @property
    def backbone(self) -> VisionNetwork | None:
        """None with regions=crop: every crop has a pass of its own, and none shares anything."""
        return None if self._settings.regions == "crop" else self._vision

    def embed_images(
        self,
        images: Sequence[Image],
        entities: Sequence[Entities],
        features: Sequence[DenseFeatures] | None = None,
    ) -> list[ImageVectors]:
        """One vector an image and one an entity: (d,) and (n, d) float32, unit length."""
        regions = [found.masks for found in entities]
        return [ImageVectors(*vectors) for vectors in self._embed(images, regions, features)]

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors; what exceeds the model's context (77 tokens of CLIP, 64 of SigLIP) is
        cut off. Raises InvalidRequest for a text without a single visible character."""
        return self._text.texts(texts)

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        """For pixels and words together the arms are asked their unit sum; see `plain_query` for what is
        raised."""
        return plain_query(self, query, self._embed_pixels, _unit_sum)

    def embed_inputs(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors; see `embed_plain_inputs` for what is raised."""
        return embed_plain_inputs(self, inputs)

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """The input itself: pixels and bare words need no template."""
        del role
        return given

    def _embed_pixels(
        self, image: Image, mask: Mask | None, features: DenseFeatures | None
    ) -> tuple[Vector, Vector]:
        # Without a region the whole frame is what entities are compared with.
        region = Mask.full(image.height, image.width) if mask is None else mask
        shared = None if features is None else [features]
        ((whole, regions),) = self._embed([image], [[region]], shared)
        return whole, regions[0]

    def _embed(
        self,
        images: Sequence[Image],
        regions: Sequence[Sequence[Mask]],
        features: Sequence[DenseFeatures] | None,
    ) -> list[tuple[Vector, NDArray[np.float32]]]:
        if self._settings.regions == "crop":
            return self._embed_crops(images, regions)
        dense = self._vision.features(images) if features is None else [self._own(one) for one in features]
        return [
            (one.image, self._vision.regions(one, masks)) for one, masks in zip(dense, regions, strict=True)
        ]

    def _embed_crops(
        self, images: Sequence[Image], regions: Sequence[Sequence[Mask]]
    ) -> list[tuple[Vector, NDArray[np.float32]]]:
        own = self._vision.images(images)
        crops = [
            self._crop(image, mask) for image, masks in zip(images, regions, strict=True) for mask in masks
        ]
        vectors = iter(self._vision.crops(crops))
        return [
            (whole, np.stack([next(vectors) for _ in masks]))
            for whole, masks in zip(own, regions, strict=True)
        ]

    def _crop(self, image: Image, mask: Mask) -> Image:
        if mask.pixels == 0:
            return image
        return crop_with_context(image, mask.box(), self._settings.context)

    def _own(self, features: DenseFeatures) -> PatchFeatures:
        if features.source != self._vision.source:
            raise ValueError(f"features of {features.source} were handed to {self._vision.source}")
        return cast(PatchFeatures, features)


def _unit_sum(pixels: Vector, text: Vector) -> Vector:
    total = pixels.astype(np.float64) + text
    unit: Vector = (total / np.linalg.norm(total)).astype(np.float32)
    return unit
