"""The models of a collection whose vectors are computed elsewhere: they name its space, and take nothing.

Such a collection is searched with vectors of its space, with its indexed images, and with examples. Whatever
would need a model to look at pixels or to read words is refused, in the words of the one who asks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest, NotAccepted
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.embedder import (
    EmbedderInfo,
    EncodableQuery,
    ImageVectors,
    InputRole,
    ModelInput,
    QueryVectors,
    SignalBackground,
)
from regionsearch.models.features import DenseFeatures
from regionsearch.models.reference import ModelReference
from regionsearch.models.runtime import Runtime
from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT, SegmenterInfo
from regionsearch.regions import Mask, RegionPrompt

KIND = "precomputed"
MAX_DIMENSION = 65_536
_SPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ITSELF = ModelReference(KIND)
_ANYHOW = Runtime()
_UNKNOWN_SPACE = SignalBackground(0.2, 0.2)
"""Of a space that nobody has measured: serves until the collection has images enough for its own."""


def fingerprints_of(space: str, dimension: int) -> tuple[Fingerprint, Fingerprint]:
    """Embedder and segmenter of a collection of precomputed vectors.

    space: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, starting with a letter or digit. dimension: 1 to
    65,536.
    Raises InvalidRequest, naming the field.
    """
    if not _SPACE.fullmatch(space):
        raise InvalidRequest(
            f"space {space!r:.200} must have 1 to 128 characters of 'A-Z a-z 0-9 . _ -' and start with a "
            "letter or digit",
            field="space",
        )
    if not 1 <= dimension <= MAX_DIMENSION:
        raise InvalidRequest(
            f"dimension is {dimension}; it must be between 1 and {MAX_DIMENSION}", field="dimension"
        )
    return Fingerprint(f"{KIND}:{space}", "", dimension, 0), Fingerprint(KIND, "", 0, 0)


def space_of(embedder: Fingerprint) -> str:
    """The space that a collection's embedder names; "" when it is a model that makes vectors."""
    return embedder.name.partition(":")[2] if embedder.kind == KIND else ""


def load_embedder(reference: ModelReference = _ITSELF, runtime: Runtime = _ANYHOW) -> PrecomputedEmbedder:
    """Any space can be named: there is nothing to load."""
    del runtime
    reference.check_options({})
    # A folder that happens to have the space's name makes a path of a reference's location.
    return PrecomputedEmbedder(reference.location.rpartition("/")[2])


def load_segmenter(reference: ModelReference = _ITSELF, runtime: Runtime = _ANYHOW) -> PrecomputedSegmenter:
    """There is nothing to load."""
    del runtime
    reference.check_options({})
    return PrecomputedSegmenter()


class PrecomputedEmbedder:
    """Stands where the embedder of other collections stands. Every method raises NotAccepted."""

    backbone = None

    def __init__(self, space: str) -> None:
        self.info = EmbedderInfo(
            fingerprint=Fingerprint(f"{KIND}:{space}" if space else KIND, "", 0, 0),
            accepts=frozenset(),
            background=dict.fromkeys(("entity", "global", "text_entity", "text_image"), _UNKNOWN_SPACE),
        )

    def embed_images(
        self,
        images: Sequence[Image],
        entities: Sequence[Entities],
        features: Sequence[DenseFeatures] | None = None,
    ) -> list[ImageVectors]:
        del images, entities, features
        self._refuse("image", "pictures")

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        del texts
        self._refuse("text", "words")

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        if query.image is None:
            self._refuse("text", "words")
        self._refuse("image", "pictures")

    def embed_inputs(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        del inputs
        self._refuse("rerank", "pictures again")

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        del role
        return given

    def _refuse(self, field: str, what: str) -> NoReturn:
        raise NotAccepted(
            f"the collection's vectors are computed elsewhere ({self.info.name}), so no model reads {what}: "
            "ask with a vector of its space, an image_id or examples; bring images in as finished records",
            field=field,
        )


class PrecomputedSegmenter:
    """Stands where the segmenter of other collections stands. Every method raises NotAccepted."""

    info = SegmenterInfo(Fingerprint(KIND, "", 0, 0))
    backbone = None

    def propose(
        self,
        images: Sequence[Image],
        features: Sequence[DenseFeatures] | None = None,
        limit: int = DEFAULT_ENTITY_LIMIT,
    ) -> list[Entities]:
        del images, features, limit
        self._refuse()

    def prompt(
        self,
        image: Image,
        region: RegionPrompt,
        features: DenseFeatures | None = None,
        *,
        refine: bool = False,
    ) -> Mask:
        del image, region, features, refine
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotAccepted(
            "the collection's entities are computed elsewhere, so no model outlines things in pictures",
            field="region",
        )
