"""Models without weights: colours instead of things. For tests of the whole system, in milliseconds.

What they say is true in a small world: an entity is a connected area of one colour, a vector tells how
much of each named colour a region has, and a text means the colours that it names. So a search for
`a red circle` finds pictures with red in them, and a click on it finds its outline.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRegion
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
    Vector,
    check_visible,
)
from regionsearch.models.features import DenseFeatures
from regionsearch.models.plain_inputs import embed_plain_inputs, plain_query
from regionsearch.models.reference import ModelReference
from regionsearch.models.runtime import Runtime
from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT, SegmenterInfo, check_limit
from regionsearch.regions import Mask, Point, RegionPrompt, validate_within

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (220, 20, 20),
    "green": (20, 160, 40),
    "blue": (20, 40, 220),
    "yellow": (250, 230, 20),
    "orange": (250, 140, 10),
    "purple": (120, 20, 140),
    "pink": (250, 160, 190),
    "brown": (120, 70, 20),
    "cyan": (20, 220, 230),
    "magenta": (230, 20, 220),
}
_SPELLINGS = {"gray": "grey", "violet": "purple", "turquoise": "cyan"}
WORD_DIMENSIONS = 3
"""Dimensions for words that name no colour: orthogonal to all pixels, so that such a text matches
everything equally badly."""
DIMENSION = len(COLOURS) + WORD_DIMENSIONS
GRID = 256
"""Cells along the longer side of the grid on which entities are found; smaller images exactly."""
LEAST_CELLS = 4
"""Cells of the smallest area that counts as a thing: below, it is noise."""

_ITSELF = ModelReference("dummy")
_ANYHOW = Runtime()
_PALETTE = np.array(list(COLOURS.values()), dtype=np.float32)
_NAMES = list(COLOURS)


def load_embedder(reference: ModelReference = _ITSELF, runtime: Runtime = _ANYHOW) -> DummyEmbedder:
    """There is one, and it computes in one way: every registered loader takes these two."""
    del runtime
    reference.check_bare()
    return DummyEmbedder()


def load_segmenter(reference: ModelReference = _ITSELF, runtime: Runtime = _ANYHOW) -> DummySegmenter:
    """There is one, and it computes in one way: every registered loader takes these two."""
    del runtime
    reference.check_bare()
    return DummySegmenter()


class DummyEmbedder:
    """A vector is the share of each named colour, as a unit vector of 13 + 3 dimensions."""

    info = EmbedderInfo(
        fingerprint=Fingerprint(name="dummy", weights="", dimension=DIMENSION, preprocessing=1),
        accepts=frozenset({"text", "image", "mask", "instruction"}),
        # Chosen, not measured: pictures of a few flat colours mostly share a background or nothing.
        background={
            "entity": SignalBackground(0.3, 0.4),
            "global": SignalBackground(0.5, 0.3),
            "text_entity": SignalBackground(0.1, 0.25),
            "text_image": SignalBackground(0.05, 0.15),
        },
    )
    backbone = None

    def embed_images(
        self,
        images: Sequence[Image],
        entities: Sequence[Entities],
        features: Sequence[DenseFeatures] | None = None,
    ) -> list[ImageVectors]:
        del features
        embedded = []
        for image, found in zip(images, entities, strict=True):
            colours = _nearest_colours(image.pixels)
            regions = [_histogram(colours[mask.to_array()]) for mask in found.masks]
            embedded.append(ImageVectors(_histogram(colours), np.stack(regions)))
        return embedded

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 16) float32 unit vectors. Raises InvalidRequest for an empty text."""
        return np.array([_words(text) for text in texts], dtype=np.float32).reshape(-1, DIMENSION)

    def embed_query(self, query: EncodableQuery) -> QueryVectors:
        """For pixels and words together the arms are asked their unit sum; see `plain_query` for what is
        raised."""
        return plain_query(self, query, _embed_pixels, _unit_sum)

    def embed_inputs(self, inputs: Sequence[ModelInput]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors; see `embed_plain_inputs` for what is raised."""
        return embed_plain_inputs(self, inputs)

    def worded(self, given: ModelInput, role: InputRole) -> ModelInput:
        """The input itself: pixels and bare words need no template."""
        del role
        return given


def _embed_pixels(image: Image, mask: Mask | None, features: DenseFeatures | None) -> tuple[Vector, Vector]:
    del features
    colours = _nearest_colours(image.pixels)
    whole = _histogram(colours)
    return whole, whole if mask is None else _histogram(colours[mask.to_array()])


class DummySegmenter:
    """Entities are connected areas of one named colour, other than the colour of the border."""

    info = SegmenterInfo(Fingerprint(name="dummy", weights="", dimension=0, preprocessing=1))
    backbone = None

    def propose(
        self,
        images: Sequence[Image],
        features: Sequence[DenseFeatures] | None = None,
        limit: int = DEFAULT_ENTITY_LIMIT,
    ) -> list[Entities]:
        """The largest areas first; objectness is the share of its box that an area fills."""
        del features
        check_limit(limit)
        return [self._propose(image, limit) for image in images]

    def prompt(
        self,
        image: Image,
        region: RegionPrompt,
        features: DenseFeatures | None = None,
        *,
        refine: bool = False,
    ) -> Mask:
        """An outline means itself, whatever points are beside it; points mean the area that holds all
        positive and no negative ones. With `refine` a box alone means the largest area that lies in it for
        the most part; the box itself where there is none.

        Raises InvalidRegion, naming the point, for one on the background or on another area.
        """
        del features
        region = validate_within(region, image.height, image.width)
        if region.mask is not None:
            return region.mask
        if region.box is not None:
            box = Mask.from_box(region.box, image.height, image.width)
            return _area_within(image, box) if refine and not region.points else box
        if region.polygon is not None:
            return Mask.from_polygon(region.polygon, image.height, image.width)
        areas, _ = _areas(image)
        return self._area_of(region.points, areas)

    def _propose(self, image: Image, limit: int) -> Entities:
        areas, count = _areas(image)
        sizes = np.bincount(areas.ravel(), minlength=count + 1)[1:]
        # Equal sizes by their first pixel: the same picture always has the same entities.
        largest = np.argsort(-sizes, kind="stable")[:limit]
        masks = [Mask.from_array(areas == label + 1) for label in largest]
        if not masks:
            return Entities.whole_frame(image.height, image.width)
        filled = [mask.pixels / mask.box().area for mask in masks]
        return Entities.from_masks(masks, np.array(filled, dtype=np.float32))

    @staticmethod
    def _area_of(points: Sequence[Point], areas: NDArray[np.int32]) -> Mask:
        labels = {point: int(areas[int(point.y), int(point.x)]) for point in points}
        meant = next(label for point, label in labels.items() if point.positive)
        for point, label in labels.items():
            if point.positive and label == 0:
                raise InvalidRegion(f"nothing lies at point {point}: it is on the background", field="region")
            if point.positive and label != meant:
                raise InvalidRegion(
                    f"no one thing holds point {point} and the points before it", field="region"
                )
            if not point.positive and label == meant:
                raise InvalidRegion(f"point {point} is negative, but on the thing itself", field="region")
        return Mask.from_array(areas == meant)


def _area_within(image: Image, box: Mask) -> Mask:
    """The area with the most pixels in a box, of those with at least half of them there; or the box."""
    areas, count = _areas(image)
    within = np.bincount(areas[box.to_array()], minlength=count + 1)
    sizes = np.bincount(areas.ravel(), minlength=count + 1)
    within[0] = 0
    within[2 * within < sizes] = 0
    return Mask.from_array(areas == within.argmax()) if within.any() else box


def _areas(image: Image) -> tuple[NDArray[np.int32], int]:
    """(height, width): 0 on the background, 1 to n on the areas; and n."""
    step = max(1, -(-max(image.height, image.width) // GRID))
    # The middle of each cell stands for it; the last cell of a row or column may be narrower.
    rows = np.minimum(np.arange(0, image.height, step) + step // 2, image.height - 1)
    columns = np.minimum(np.arange(0, image.width, step) + step // 2, image.width - 1)
    colours = _nearest_colours(image.pixels[np.ix_(rows, columns)])
    border = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    background = int(np.bincount(border).argmax())
    labels = np.zeros(colours.shape, dtype=np.int32)
    count = 0
    for colour in np.unique(colours):
        if colour == background:
            continue
        found, _ = scipy.ndimage.label(colours == colour)
        for label in np.flatnonzero(np.bincount(found.ravel())[1:] >= LEAST_CELLS) + 1:
            count += 1
            labels[found == label] = count
    full = labels.repeat(step, axis=0).repeat(step, axis=1)
    return full[: image.height, : image.width], count


def _nearest_colours(pixels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """(h, w, 3) → (h, w): index of the named colour that is nearest in RGB."""
    nearest = np.zeros(pixels.shape[:2], dtype=np.intp)
    least = np.full(pixels.shape[:2], np.inf, dtype=np.float32)
    values = pixels.astype(np.float32)
    for index, colour in enumerate(_PALETTE):
        distance = np.square(values - colour).sum(axis=2)
        closer = distance < least
        nearest[closer] = index
        least[closer] = distance[closer]
    return nearest


def _histogram(colours: NDArray[np.intp]) -> Vector:
    return _unit(np.bincount(colours.ravel(), minlength=DIMENSION).astype(np.float32))


def _words(text: str) -> Vector:
    """The colours that a text names, or where it names none, a direction of its own among words."""
    check_visible(text)
    words = [_SPELLINGS.get(word, word) for word in re.findall(r"\w+", text.lower())]
    vector = np.zeros(DIMENSION, dtype=np.float32)
    for word in words:
        if word in COLOURS:
            vector[_NAMES.index(word)] += 1
    if not vector.any():
        digest = hashlib.sha256(text.encode()).digest()
        vector[len(COLOURS) :] = np.frombuffer(digest[:WORD_DIMENSIONS], dtype=np.uint8) + np.float32(1)
    return _unit(vector)


def _unit(vector: Vector) -> Vector:
    unit: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit


def _unit_sum(pixels: Vector, text: Vector) -> Vector:
    return _unit(pixels + text)
