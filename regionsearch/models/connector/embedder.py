"""An embedder whose vectors of pixels were moved to where their captions lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.connector.connector_map import ConnectorMap
from regionsearch.models.embedder import (
    Embedder,
    EmbedderInfo,
    EncodableQuery,
    ImageVectors,
    InputRole,
    ModelInput,
    QueryVectors,
    SignalBackground,
    Vector,
)
from regionsearch.models.features import Backbone, DenseFeatures
from regionsearch.models.plain_inputs import embed_plain_inputs, plain_query
from regionsearch.regions import Mask

PREPROCESSING = 1
"""Version of how the map is applied; raised when vectors change."""


class ConnectorEmbedder:
    """The base embedder's texts as they are, its images, entities and regions through the map.

    Takes what the base takes, shares its network passes, and is as safe in several threads as it is.
    """

    def __init__(
        self,
        base: Embedder,
        connector: ConnectorMap,
        name: str,
        weights: str,
        background: Mapping[str, SignalBackground],
    ) -> None:
        """name, weights: of the fingerprint. background: of the signals after the map."""
        self._base = base
        self._map = connector
        self._info = EmbedderInfo(
            fingerprint=Fingerprint(name, weights, base.info.dimension, PREPROCESSING),
            accepts=base.info.accepts,
            background=background,
        )

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    @property
    def backbone(self) -> Backbone | None:
        return self._base.backbone

    def embed_images(
        self,
        images: Sequence[Image],
        entities: Sequence[Entities],
        features: Sequence[DenseFeatures] | None = None,
    ) -> list[ImageVectors]:
        """One vector an image and one an entity, as the base has them, mapped."""
        embedded = self._base.embed_images(images, entities, features)
        if not embedded:
            return []
        # One product for the whole batch.
        blocks = [np.concatenate([each.image[None], each.entities]) for each in embedded]
        mapped = np.split(self._map(np.concatenate(blocks)), np.cumsum([len(rows) for rows in blocks])[:-1])
        return [ImageVectors(rows[0], rows[1:]) for rows in mapped]

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The base's own vectors. Raises what the base raises."""
        return self._base.embed_texts(texts)

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        """For pixels and words together the arms are asked their unit sum; see `plain_query` for what is
        raised."""
        return plain_query(self, query, self._embed_pixels, _unit_sum)

    def embed_inputs(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors; see `embed_plain_inputs` for what is raised."""
        return embed_plain_inputs(self, inputs)

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """As the base words it."""
        return self._base.worded(given, role)

    def _embed_pixels(
        self, image: Image, mask: Mask | None, features: DenseFeatures | None
    ) -> tuple[Vector, Vector]:
        pixels = self._base.embed_query(EncodableQuery(image=image, mask=mask, features=features))
        return self._mapped(pixels.global_arm), self._mapped(pixels.entity_arm)

    def _mapped(self, vector: Vector) -> Vector:
        mapped: Vector = self._map(vector[None])[0]
        return mapped


def _unit_sum(pixels: Vector, text: Vector) -> Vector:
    total = pixels + text
    unit: Vector = total / np.linalg.norm(total)
    return unit
