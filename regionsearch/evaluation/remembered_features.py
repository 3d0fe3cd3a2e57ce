"""One network pass a photo, however many questions are asked about it.

An evaluation asks about the same photo several times, in several modes. Features depend on the pixels
alone, so remembering those of the last few photos changes no answer, only the time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.images import Image
from regionsearch.models.embedder import (
    Embedder,
    EmbedderInfo,
    EncodableQuery,
    ImageVectors,
    InputRole,
    ModelInput,
    QueryVectors,
)
from regionsearch.models.features import Backbone, DenseFeatures
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.segmenter import Segmenter

REMEMBERED_PHOTOS = 4
"""Questions come ordered by photo; features of a photo are some megabytes."""


class RememberingBackbone:
    """A backbone that knows the features of the last few images it read, by object. For one thread."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        # The image is kept beside its features: its id() is its own for as long as it lives.
        self._known: OrderedDict[int, tuple[Image, DenseFeatures]] = OrderedDict()

    @property
    def source(self) -> str:
        return self._backbone.source

    def features(self, images: Sequence[Image]) -> list[DenseFeatures]:
        return [self._features(image) for image in images]

    def _features(self, image: Image) -> DenseFeatures:
        if id(image) not in self._known:
            (found,) = self._backbone.features([image])
            self._known[id(image)] = (image, found)
            if len(self._known) > REMEMBERED_PHOTOS:
                self._known.popitem(last=False)
        return self._known[id(image)][1]


class RememberingEmbedder:
    """An embedder whose backbone remembers; all else is the embedder's own."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._backbone = None if embedder.backbone is None else RememberingBackbone(embedder.backbone)

    @property
    def info(self) -> EmbedderInfo:
        return self._embedder.info

    @property
    def backbone(self) -> Backbone | None:
        return self._backbone

    def embed_images(
        self,
        images: Sequence[Image],
        entities: Sequence[Entities],
        features: Sequence[DenseFeatures] | None = None,
    ) -> list[ImageVectors]:
        return self._embedder.embed_images(images, entities, features)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._embedder.embed_texts(texts)

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        return self._embedder.embed_query(query)

    def embed_inputs(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        return self._embedder.embed_inputs(inputs)

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        return self._embedder.worded(given, role)


class RememberingModels(ModelRegistry):
    """The models of another registry, embedders with a memory."""

    def __init__(self, models: ModelRegistry) -> None:
        super().__init__()
        self._models = models
        self._remembering: dict[str, RememberingEmbedder] = {}

    def embedder(self, name: str) -> Embedder:
        if name not in self._remembering:
            self._remembering[name] = RememberingEmbedder(self._models.embedder(name))
        return self._remembering[name]

    def segmenter(self, name: str) -> Segmenter:
        return self._models.segmenter(name)
