"""Pins a collection to its models: what is written at creation, what is compared at every opening."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import CollectionSpec
from regionsearch.collection.records import PixelsKept
from regionsearch.entities import Entities
from regionsearch.errors import FingerprintMismatch
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.embedder import Embedder
from regionsearch.models.precomputed import KIND as PRECOMPUTED
from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT, Segmenter

PROBE_AGREEMENT = 0.999
"""Least cosine between the stored and the fresh vector of the probe picture: far above what two
inference engines differ by, far below what other weights or another preprocessing would give."""


def probe_picture() -> Image:
    """A fixed synthetic picture, 128 × 160: a colour gradient, a disc, a bar and a fine texture."""
    rows, columns = np.mgrid[0:128, 0:160].astype(np.float64)
    red = 255 * columns / 159
    green = 255 * rows / 127
    blue = 128 + 100 * np.sin(rows / 3) * np.cos(columns / 5)
    pixels = np.stack([red, green, blue], axis=2)
    pixels[(rows - 60) ** 2 + (columns - 50) ** 2 < 30**2] = (230, 40, 30)
    pixels[90:110, 80:150] = (20, 60, 200)
    return Image(np.ascontiguousarray(pixels.astype(np.uint8)))


def probe_vector(embedder: Embedder) -> NDArray[np.float32]:
    """(d,) float32: what the embedder makes of the probe picture today."""
    picture = probe_picture()
    whole = Entities.whole_frame(picture.height, picture.width)
    return embedder.embed_images([picture], [whole])[0].image


def collection_spec(
    name: str,
    embedder: Embedder,
    segmenter: Segmenter,
    *,
    pixels: PixelsKept = "thumbnail",
    entity_limit: int = DEFAULT_ENTITY_LIMIT,
) -> CollectionSpec:
    """The spec of a new collection for these models."""
    return CollectionSpec(
        name=name,
        embedder=embedder.info.fingerprint,
        segmenter=segmenter.info.fingerprint,
        pixels=pixels,
        entity_limit=entity_limit,
        probe=probe_vector(embedder),
    )


def check_models(spec: CollectionSpec, embedder: Embedder, segmenter: Segmenter | None = None) -> None:
    """Raises FingerprintMismatch, naming both sides, unless the models are the collection's own.

    The segmenter matters to those who add images; whoever only searches may leave it out. Vectors that were
    computed elsewhere have no model here that could differ.
    """
    if spec.embedder.kind == PRECOMPUTED:
        return
    _compare(spec.name, "embedder", spec.embedder, embedder.info.fingerprint)
    if segmenter is not None:
        _compare(spec.name, "segmenter", spec.segmenter, segmenter.info.fingerprint)
    if spec.probe is not None:
        cosine = float(np.dot(spec.probe, probe_vector(embedder)))
        if cosine < PROBE_AGREEMENT:
            raise FingerprintMismatch(
                f"collection {spec.name!r}: embedder {embedder.info.fingerprint} gives the probe picture "
                f"another vector than when the collection was made (cosine {cosine:.4f}, at least "
                f"{PROBE_AGREEMENT} is needed); the inference engine or the processor computes differently"
            )


def _compare(collection: str, kind: str, stored: Fingerprint, present: Fingerprint) -> None:
    if not stored.same_model(present):
        raise FingerprintMismatch(
            f"collection {collection!r} was made with {kind} {stored}, but the one at hand is {present}",
            metadata={"collection": collection, "stored": str(stored), "present": str(present)},
        )
