"""Queries, and inputs read as one, for models that know pixels and words apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRequest, NotAccepted
from regionsearch.images import Image
from regionsearch.models.embedder import Embedder, EncodableQuery, ModelInput, QueryVectors, Vector
from regionsearch.models.features import DenseFeatures
from regionsearch.regions import Mask, validate_within

TOGETHER = 16
"""Images whose features are computed, and held, at once."""

EmbedPixels = Callable[[Image, Mask | None, DenseFeatures | None], tuple[Vector, Vector]]
"""An image, a mask of its size, its features if they are known → the vectors of the whole image and of the
region under the mask, or without one of what entities are compared with."""


def plain_query(
    embedder: Embedder,
    query: EncodableQuery,
    embed_pixels: EmbedPixels,
    unit_sum: Callable[[Vector, Vector], Vector],
) -> QueryVectors:
    """`Embedder.embed_query` for an embedder that reads regions as masks. For pixels and words together the
    arms are asked the unit sum of their two vectors.

    unit_sum: of a region's or image's vector and a text's, in the model's own arithmetic: what a stored
    query was answered with stays the same to the last bit.
    Raises InvalidRequest when there is neither an image nor a text, the text is empty, or the mask has not
    the image's size, and NotAccepted for a region without an image or one that was not made a mask.
    """
    text = None if query.text is None else embedder.embed_texts([query.text])[0]
    image, mask = query.image, query.mask
    if image is None:
        if mask is not None or query.prompt is not None:
            raise NotAccepted("a region needs the image that it lies in", field="region")
        if text is None:
            raise InvalidRequest("a query needs an image, a text, or both")
        return QueryVectors(entity_arm=text, global_arm=text, text=text)
    if mask is None and query.prompt is not None:
        kind = embedder.info.fingerprint.kind
        raise NotAccepted(f"{kind} reads regions as masks, not as points or boxes", field="region")
    if mask is not None and (mask.height, mask.width) != (image.height, image.width):
        raise InvalidRequest(
            f"the mask has {mask.width} × {mask.height} pixels, its image {image.width} × {image.height}",
            field="region",
        )
    whole, region = embed_pixels(image, mask, query.features)
    return QueryVectors(
        entity_arm=region if text is None else unit_sum(region, text),
        global_arm=whole if text is None else unit_sum(whole, text),
        region=region,
        image=whole,
        text=text,
    )


def embed_plain_inputs(embedder: Embedder, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
    """(n, d) float32 unit vectors: `InputEmbedder.embed_inputs` for an embedder that reads regions as
    masks. Pixels and words together are what the arms of a query are asked.

    Raises NotAccepted for points, alone or beside an outline, which only a segmenter can turn into a
    mask, or for a region without an image; InvalidRequest for an input with nothing in it.
    """
    vectors = np.empty((len(inputs), embedder.info.dimension), dtype=np.float32)
    words: dict[int, str] = {}
    pictured: list[int] = []
    for place, given in enumerate(inputs):
        if given.image is None:
            if given.region is not None:
                raise NotAccepted("a region needs the image that it lies in", field="region")
            if given.text is None:
                raise InvalidRequest("an input needs an image, a text, or both")
            words[place] = given.text
            continue
        pictured.append(place)
    for start in range(0, len(pictured), TOGETHER):
        some = pictured[start : start + TOGETHER]
        masks = [_mask(embedder, inputs[place]) for place in some]
        features = _features(embedder, [inputs[place] for place in some])
        for place, mask in zip(some, masks, strict=True):
            given = inputs[place]
            known = None if given.image is None else features.get(id(given.image))
            query = EncodableQuery(image=given.image, mask=mask, text=given.text, features=known)
            asked = embedder.embed_query(query)
            vectors[place] = asked.global_arm if given.region is None else asked.entity_arm
    if words:
        vectors[list(words)] = embedder.embed_texts(list(words.values()))
    return vectors


def _features(embedder: Embedder, inputs: Sequence[ModelInput]) -> dict[int, DenseFeatures]:
    """By the id of each different image, computed together; none where the model has no such features."""
    images = {id(given.image): given.image for given in inputs if given.image is not None}
    if embedder.backbone is None:
        return {}
    return dict(zip(images, embedder.backbone.features(list(images.values())), strict=True))


def _mask(embedder: Embedder, given: ModelInput) -> Mask | None:
    if given.region is None or given.image is None:
        return None
    height, width = given.image.height, given.image.width
    region = validate_within(given.region, height, width)
    if region.points:
        # Beside an outline too: dropping them would answer another question.
        raise NotAccepted(
            f"{embedder.info.name} reads regions as boxes or masks, not as points", field="region"
        )
    if region.mask is not None:
        return region.mask
    if region.box is not None:
        return Mask.from_box(region.box, height, width)
    if region.polygon is None:
        raise ValueError("a region without points has an outline")
    return Mask.from_polygon(region.polygon, height, width)
