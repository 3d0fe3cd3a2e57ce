"""Phase 0 of a query: pixels, words and ids become vectors of the collection's space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection, ImageRecord
from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest
from regionsearch.images import Image, decode_image
from regionsearch.models.embedder import Embedder, EncodableQuery, QueryVectors
from regionsearch.models.features import DenseFeatures
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.segmenter import Segmenter
from regionsearch.regions import RegionPrompt, denormalise, validate_within
from regionsearch.search.answer import UsedRegion
from regionsearch.search.feedback import Examples, moved, moved_regions, unit_sum
from regionsearch.search.indexed_things import IndexedThings
from regionsearch.search.joint_scoring import JointQuestion
from regionsearch.search.query import Query, QueryRegion
from regionsearch.search.query_checks import check_vector
from regionsearch.search.stopwatch import Stopwatch

Vector = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """question: what candidates are compared with. entity_arms: what the entity arm is asked, (d,) each, one
    for each region or one; global_arm: likewise. regions: those really used. image: the picture that
    came with the query. record: of the indexed image, with its pixels when the query is to be read again."""

    question: JointQuestion
    entity_arms: tuple[Vector, ...]
    global_arm: Vector
    regions: tuple[UsedRegion, ...] = ()
    image: Image | None = None
    record: ImageRecord | None = None


@dataclass(frozen=True, eq=False)
class Encoder:
    """The models of one collection. texts: vectors of texts that were embedded before, by their words."""

    collection: Collection
    models: ModelRegistry
    limits: Limits
    texts: Mapping[str, Vector]

    def encode(self, query: Query, indexed: IndexedThings, stopwatch: Stopwatch) -> EncodedQuery:
        """indexed: what the query names of the collection. Raises InvalidRegion, InvalidImage and NotAccepted
        as the query deserves."""
        record = indexed.record
        used: tuple[UsedRegion, ...] = ()
        image: Image | None = None
        if query.vector is not None:
            with stopwatch.stage("encode"):
                seen = [_ready_vector(query.vector, self.collection.spec.embedder.dimension)]
        elif record is not None:
            seen = _indexed_vectors(query, record, self._text(query, stopwatch))
        elif query.image is not None or query.encoded_image is not None:
            image = self._image(query, stopwatch)
            used, seen = self._picture(query, image, stopwatch)
        else:
            text = self._text(query, stopwatch)
            seen = [] if text is None else [QueryVectors(text, text, text=text)]
        question, entity_arms, global_arm = _moved(seen, indexed.liked, indexed.disliked)
        return EncodedQuery(question, entity_arms, global_arm, used, image, record)

    def _text(self, query: Query, stopwatch: Stopwatch) -> Vector | None:
        if query.text is None:
            return None
        known = self.texts.get(query.text)
        if known is not None:
            return known
        with stopwatch.stage("encode"):
            return self._embedder().embed_query(EncodableQuery(text=query.text)).text

    def _picture(
        self, query: Query, image: Image, stopwatch: Stopwatch
    ) -> tuple[tuple[UsedRegion, ...], list[QueryVectors]]:
        """The regions used, and the vectors of each, or those of the whole image; from one pass over the
        pixels."""
        embedder = self._embedder()
        prompts = [_prompt(region, number, image) for number, region in enumerate(query.regions)]
        features: DenseFeatures | None = None
        if embedder.backbone is not None:
            with stopwatch.stage("encode"):
                features = embedder.backbone.features([image])[0]
        used: tuple[UsedRegion, ...] = ()
        if prompts:
            segmenter = self.models.segmenter(self.collection.spec.segmenter.name)
            with stopwatch.stage("segment"):
                used = _outlined(query.regions, prompts, image, segmenter, features)
        if not used:
            with stopwatch.stage("encode"):
                whole = EncodableQuery(image=image, text=query.text, features=features)
                return (), [embedder.embed_query(whole)]
        vectors = []
        for number, (region, each) in enumerate(zip(query.regions, used, strict=True)):
            # A model that takes boxes as they are should see the thing that was found in it instead.
            prompt = RegionPrompt(mask=each.mask) if region.refine else each.prompt
            asked = EncodableQuery(image, each.mask, prompt, query.text, features)
            with stopwatch.stage("encode"), in_region(number):
                vectors.append(embedder.embed_query(asked))
        return used, vectors

    def _image(self, query: Query, stopwatch: Stopwatch) -> Image:
        if query.encoded_image is None:
            if query.image is None:
                raise ValueError("a query without a picture")
            return query.image
        with stopwatch.stage("decode"):
            megapixels = self.limits.image_megapixels
            return decode_image(query.encoded_image, query.image_name, max_megapixels=megapixels)

    def _embedder(self) -> Embedder:
        return self.models.embedder(self.collection.spec.embedder.name)


@contextmanager
def in_region(number: int) -> Iterator[None]:
    """Models know a region, not its place in the query: errors that name it, or nothing, get its path."""
    try:
        yield
    except InvalidRequest as error:
        if error.field in (None, "region"):
            error.field = f"regions[{number}]"
        raise


def _prompt(region: QueryRegion, number: int, image: Image) -> RegionPrompt:
    """In pixels of the image. Raises InvalidRegion when it does not lie in it."""
    with in_region(number):
        prompt = region.prompt
        if region.normalised:
            prompt = denormalise(prompt, image.height, image.width)
        return validate_within(prompt, image.height, image.width)


def _outlined(
    regions: Sequence[QueryRegion],
    prompts: Sequence[RegionPrompt],
    image: Image,
    segmenter: Segmenter,
    features: DenseFeatures | None,
) -> tuple[UsedRegion, ...]:
    shared: DenseFeatures | None = None
    if segmenter.backbone is not None:
        if features is not None:
            shared = features.part(segmenter.backbone.source)
        looking = [
            bool(prompt.points) or region.refine for region, prompt in zip(regions, prompts, strict=True)
        ]
        if shared is None and sum(looking) > 1:
            # Once for all regions. An outline alone means itself: nothing has to be seen for it.
            shared = segmenter.backbone.features([image])[0]
    used = []
    for number, (region, prompt) in enumerate(zip(regions, prompts, strict=True)):
        with in_region(number):
            used.append(UsedRegion(segmenter.prompt(image, prompt, shared, refine=region.refine), prompt))
    return tuple(used)


def _ready_vector(vector: Vector, dimension: int) -> QueryVectors:
    check_vector(vector, dimension)
    exact = vector.astype(np.float64)
    unit: Vector = (exact / np.linalg.norm(exact)).astype(np.float32)
    return QueryVectors(entity_arm=unit, global_arm=unit, region=unit, image=unit)


def _indexed_vectors(query: Query, record: ImageRecord, text: Vector | None) -> list[QueryVectors]:
    """One for each entity that is meant, or one for the whole image."""
    image = record.vectors[0]
    regions = [record.vectors[1 + entity] for entity in query.entities] or [image]
    return [
        QueryVectors(
            entity_arm=region if text is None else unit_sum([region, text]),
            global_arm=image if text is None else unit_sum([image, text]),
            region=region,
            image=image,
            text=text,
        )
        for region in regions
    ]


def _moved(
    seen: Sequence[QueryVectors], liked: Examples, disliked: Examples
) -> tuple[JointQuestion, tuple[Vector, ...], Vector]:
    """The question and what the two arms are asked, moved by the examples.

    seen: of each region, of the words alone, or nothing.
    """
    text = seen[0].text if seen else None
    regions = [each.region for each in seen if each.region is not None]
    if not regions and len(liked):
        # Words, or nothing, with liked examples: these bring the pixels.
        region = moved(None, liked.entities, disliked.entities)
        image = moved(None, liked.images, disliked.images)
        arms = (region, image) if text is None else (unit_sum([region, text]), unit_sum([image, text]))
        return JointQuestion(region[None], image, text), (arms[0],), arms[1]
    first = seen[0]
    entity_arms = np.stack([each.entity_arm for each in seen])
    if not len(liked) and not len(disliked):
        return JointQuestion(_rows(regions, first), first.image, text), tuple(entity_arms), first.global_arm
    entity_arms = moved_regions(entity_arms, liked.entities, disliked.entities)
    global_arm = moved(first.global_arm, liked.images, disliked.images)
    if not regions and text is not None:
        # Words have no pixels that could be moved away from what is disliked, but themselves.
        text = moved(text, liked.entities, disliked.entities)
    rows = _rows(regions, first)
    if regions:
        rows = moved_regions(rows, liked.entities, disliked.entities)
    image_vector = None if first.image is None else moved(first.image, liked.images, disliked.images)
    return JointQuestion(rows, image_vector, text), tuple(entity_arms), global_arm


def _rows(regions: Sequence[Vector], first: QueryVectors) -> NDArray[np.float32]:
    """(r, d), also for no region."""
    return np.stack(regions) if regions else np.empty((0, len(first.entity_arm)), np.float32)
