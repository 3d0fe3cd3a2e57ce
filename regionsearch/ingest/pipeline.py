"""One image to one record: decode, segment, embed.

INTERFACE SKETCH: the owner of this module completes it; names and signatures below stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regionsearch.collection import ImageRecord
from regionsearch.entities import Entities
from regionsearch.images import Image
from regionsearch.models.embedder import Embedder
from regionsearch.models.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image on its way in: encoded bytes (JPEG, PNG, ...), an id, a payload; entities when they are given."""

    image_id: str
    data: bytes
    payload: Mapping[str, Any] = field(default_factory=dict)
    entities: Entities | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    source: str
    reason: str


class Pipeline:
    """Turns batches of encoded images into finished records. `seconds` sums what each step took."""

    def __init__(self, embedder: Embedder, segmenter: Segmenter, *, pixels: str = "thumbnail", entity_limit: int = 32) -> None: raise NotImplementedError
    seconds: dict[str, float]
    def run(self, images: Sequence[EncodedImage]) -> tuple[list[ImageRecord], list[Failure]]:
        """Records of those that worked, and a failure for each other one; never raises for a bad image."""
        raise NotImplementedError


def collection_spec(name: str, embedder: Embedder, segmenter: Segmenter, **settings: Any) -> Any:
    """The CollectionSpec of a new collection for these models, with its probe vector."""
    raise NotImplementedError


def check_models(spec: Any, embedder: Embedder, segmenter: Segmenter | None) -> None:
    """Raises FingerprintMismatch, naming both sides, unless the models are the collection's own
    (fingerprints, and the probe vector to cosine 0.999)."""
    raise NotImplementedError
