"""An embedder on Qwen2-VL that knows no regions: an entity, and the region of a query, is the part of
the picture around its box, worded like a picture of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest, NotAccepted
from regionsearch.images import Image
from regionsearch.models.crops import box_of_region, context_extent
from regionsearch.models.embedder import (
    EmbedderInfo,
    EncodableQuery,
    ImageVectors,
    InputRole,
    ModelInput,
    QueryVectors,
    check_visible,
)
from regionsearch.models.features import DenseFeatures
from regionsearch.models.qwen2_vl.loading import LoadedQwen2VL
from regionsearch.models.qwen2_vl.pictures import PixelBounds
from regionsearch.models.qwen2_vl.rows import Extent, Row, RowMaker
from regionsearch.models.qwen2_vl.words import Words
from regionsearch.regions import Box


class RowNetwork(Protocol):
    """Rows to vectors."""

    @property
    def base(self) -> LoadedQwen2VL: ...

    def embed(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors, each independent of the others."""


class CropEmbedder:
    """Safe to use from several threads.

    context: margin of a crop on each side, a share of the box's sides.
    """

    backbone = None

    def __init__(
        self, network: RowNetwork, words: Words, bounds: PixelBounds, context: float, info: EmbedderInfo
    ) -> None:
        self._network = network
        self._words = words
        self._context = context
        self._info = info
        self._rows = RowMaker(network.base.tokenizer, network.base.image_token_id, bounds)

    @property
    def info(self) -> EmbedderInfo:
        return self._info

    def embed_images(
        self,
        images: Sequence[Image],
        entities: Sequence[Entities],
        features: Sequence[DenseFeatures] | None = None,
    ) -> list[ImageVectors]:
        """One vector an image and one an entity, unit length. Entities that are shown as the same part
        of the picture, or as all of it, are read once."""
        del features
        rows: list[Row] = []
        places: list[list[int]] = []
        words = self._words.stored()
        for image, found in zip(images, entities, strict=True):
            read: dict[Extent, int] = {}
            extents: list[Extent] = [(0, 0, image.width, image.height)]
            extents += [self._extent(image, Box(*map(float, box))) for box in found.boxes]
            for extent in extents:
                if extent not in read:
                    read[extent] = len(rows)
                    rows.append(self._rows.image_row(words, image, extent))
            places.append([read[extent] for extent in extents])
        vectors = self._network.embed(rows)
        return [ImageVectors(vectors[own[0]], vectors[own[1:]]) for own in places]

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors. Raises InvalidRequest for a text without a visible character or
        with the place of a picture in it."""
        return self._network.embed([self._text_row(text) for text in texts])

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        """The picture and its region are read together with the text, as its instruction.

        Raises InvalidRequest when there is neither an image nor a text, or the text is empty, and
        NotAccepted for a region without an image, or points that were not made a mask.
        """
        if query.image is None:
            if query.mask is not None or query.prompt is not None:
                raise NotAccepted("a region needs the image that it lies in", field="region")
            if query.text is None:
                raise InvalidRequest("a query needs an image, a text, or both")
            text = self._network.embed([self._text_row(query.text)])[0]
            return QueryVectors(entity_arm=text, global_arm=text, text=text)
        # First, so that a text that cannot be read is refused before anything is computed.
        rows = [] if query.text is None else [self._text_row(query.text)]
        words, instructed = self._words.asked_picture(query.text), query.text is not None
        box = box_of_region(query.image, query.mask, query.prompt, self._info.name)
        extents = [None] if box is None else [None, self._extent(query.image, box)]
        rows += [
            self._rows.image_row(words, query.image, extent, instructed=instructed) for extent in extents
        ]
        vectors = self._network.embed(rows)
        whole, region = vectors[-len(extents)], vectors[-1]
        return QueryVectors(
            entity_arm=region,
            global_arm=whole,
            region=region,
            image=whole,
            text=vectors[0] if instructed else None,
        )

    def embed_inputs(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors; a region is its crop.

        Raises NotAccepted for points or a region without an image, InvalidRequest for an input with
        nothing in it or a string of the wrong form.
        """
        return self._network.embed([self.row(given) for given in inputs])

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """The same input in the model's own words."""
        return self._words.worded(given, role)

    def row(self, given: ModelInput) -> Row:
        """What the network will see of an input. Raises as `embed_inputs` does."""
        if given.image is None:
            if given.region is not None:
                raise NotAccepted("a region needs the image that it lies in", field="region")
            if given.text is None:
                raise InvalidRequest("an input needs an image, a text, or both")
            check_visible(given.text)
            return self._rows.text_row(self._words.given(given.text, False))
        words = self._words.given(given.text, True)
        box = box_of_region(given.image, None, given.region, self._info.name)
        extent = None if box is None else self._extent(given.image, box)
        return self._rows.image_row(words, given.image, extent, instructed=given.text is not None)

    def _text_row(self, text: str) -> Row:
        check_visible(text)
        return self._rows.text_row(self._words.asked_text(text))

    def _extent(self, image: Image, box: Box) -> Extent:
        return context_extent(image.height, image.width, box, self._context)
