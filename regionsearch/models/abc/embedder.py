"""The embedder: pictures, regions, words, and pictures with an instruction, in one space.

ABC knows no regions: an entity, and the region of a query, is the part of the picture around its box.
What is stored is read without the instruct adapter, what is asked with an instruction is read with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest, NotAccepted
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.abc.network import AbcNetwork
from regionsearch.models.abc.pictures import PixelBounds
from regionsearch.models.abc.rows import Row, RowMaker
from regionsearch.models.abc.settings import Settings
from regionsearch.models.crops import box_of_region, context_extent
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
from regionsearch.regions import Box

PREPROCESSING = 1
"""Version of everything between pixels or words and the network; raised when vectors change."""
BACKGROUND: Mapping[str, SignalBackground] = {
    # Chosen, not measured: the published weights were not at hand.
    "entity": SignalBackground(0.45, 0.15),
    "global": SignalBackground(0.35, 0.15),
    "text_entity": SignalBackground(0.15, 0.1),
    "text_image": SignalBackground(0.15, 0.1),
}


class AbcEmbedder:
    """Safe to use from several threads."""

    backbone = None

    def __init__(self, network: AbcNetwork, settings: Settings, name: str, weights: str) -> None:
        self.network = network
        self._context = settings.context
        base = network.base
        self.rows = RowMaker(
            base.tokenizer, base.image_token_id, PixelBounds(settings.min_tokens, settings.max_tokens)
        )
        self._info = EmbedderInfo(
            fingerprint=Fingerprint(name, weights, base.hidden_size, PREPROCESSING),
            accepts=frozenset({"text", "image", "box", "mask", "instruction"}),
            background=BACKGROUND,
        )

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
        for image, found in zip(images, entities, strict=True):
            whole = (0, 0, image.width, image.height)
            read = {whole: len(rows)}
            rows.append(self.rows.row(image=image))
            own = [read[whole]]
            for box in found.boxes:
                extent = context_extent(image.height, image.width, Box(*map(float, box)), self._context)
                if extent not in read:
                    read[extent] = len(rows)
                    rows.append(self.rows.row(image=image, extent=extent))
                own.append(read[extent])
            places.append(own)
        vectors = self.network.embed(rows)
        return [ImageVectors(vectors[own[0]], vectors[own[1:]]) for own in places]

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors. Raises InvalidRequest for a text without a visible character or
        with the place of a picture in it."""
        for text in texts:
            _check_visible(text)
        return self.network.embed([self.rows.row(text) for text in texts])

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        """The picture and its region are read together with the text, as its instruction.

        Raises InvalidRequest when there is neither an image nor a text, or the text is empty, and
        NotAccepted for a region without an image, or points that were not made a mask.
        """
        if query.text is not None:
            _check_visible(query.text)
        if query.image is None:
            if query.mask is not None or query.prompt is not None:
                raise NotAccepted("a region needs the image that it lies in", field="region")
            if query.text is None:
                raise InvalidRequest("a query needs an image, a text, or both")
            text = self.network.embed([self.rows.row(query.text)])[0]
            return QueryVectors(entity_arm=text, global_arm=text, text=text)
        rows = [self.rows.row(query.text, query.image)]
        box = box_of_region(query.image, query.mask, query.prompt, self._info.name)
        if box is not None:
            rows.append(self._crop(query.image, box, query.text))
        if query.text is not None:
            rows.append(self.rows.row(query.text))
        vectors = self.network.embed(rows)
        whole, region = vectors[0], vectors[0 if box is None else 1]
        return QueryVectors(
            entity_arm=region,
            global_arm=whole,
            region=region,
            image=whole,
            text=None if query.text is None else vectors[-1],
        )

    def embed_inputs(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors. An image with a text, also the empty one, is read with the
        instruct adapter, everything else without.

        Raises NotAccepted for points or a region without an image, InvalidRequest for an input with
        nothing in it.
        """
        return self.network.embed([self._row(given) for given in inputs])

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """The input itself: the model's template takes bare words."""
        del role
        return given

    def _row(self, given: ModelInput) -> Row:
        if given.image is None:
            if given.region is not None:
                raise NotAccepted("a region needs the image that it lies in", field="region")
            if given.text is None:
                raise InvalidRequest("an input needs an image, a text, or both")
            _check_visible(given.text)
            return self.rows.row(given.text)
        box = box_of_region(given.image, None, given.region, self._info.name)
        if box is None:
            return self.rows.row(given.text, given.image)
        return self._crop(given.image, box, given.text)

    def _crop(self, image: Image, box: Box, text: str | None) -> Row:
        return self.rows.row(text, image, context_extent(image.height, image.width, box, self._context))


def _check_visible(text: str) -> None:
    if not text.strip():
        raise InvalidRequest("a text to embed is empty", field="text")
