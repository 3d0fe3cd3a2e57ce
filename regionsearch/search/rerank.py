"""Third phase: the best of the joint ranking are read again, each with what was asked, by the model itself.

Joint scoring compares what was stored of an image before anybody asked. The reading gives the model both
sides in its own words: instruction, query picture and region as one input; the candidate's kept pixels
with its matched entity as region as another; and takes the cosine of the two. By `pairwise` the candidate
is read as it is stored, without words of the caller: from the pixels that were indexed that gives the
vector of its entity once more. By `pairwise_instructed` it is read with the query's instruction, which no
stored vector knows.

How it enters the score. The cosines of the n images are standardised among themselves, counted from the
least similar of them, and added to the weighted sums of joint scoring with a weight. So the second
opinion is heard beside the first and does not replace it, no score falls by being read again, and every
image that was read stays before all that were not, whose scores and order are what they were. Only the
n are sorted by the new sums: of the rest, one that a wider search found late may have a greater sum than they
(`widening`), and its place on a later page must not depend on how many pages are read at once.
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection, ImageRecord
from regionsearch.errors import FailedPrecondition, ImageNotFound, InvalidImage
from regionsearch.images import Image, decode_image
from regionsearch.models.embedder import Embedder, ModelInput
from regionsearch.regions import Box, Mask, RegionPrompt
from regionsearch.search.answer import Hit, RerankScore, UsedRegion
from regionsearch.search.calibration import Calibrator
from regionsearch.search.encoding import EncodedQuery
from regionsearch.search.joint_scoring import ranking
from regionsearch.search.query import Query

PIXELS_AT_ONCE = 32_000_000
"""Decoded pixels handed to the model together, one image at least: 100 MB however large photos are."""
LEAST_DEVIATION = 0.01
"""Floor, in cosine: differences between images that all fit equally well must not become evidence."""


@dataclass(frozen=True, eq=False)
class Reading:
    """places: (n,) int64, in the joint order from 0, of what was read again. cosines: (n,) float64.
    deviations: (n,) float64, what the reading says in deviations; None: the cosines in their own."""

    places: NDArray[np.int64]
    cosines: NDArray[np.float64]
    deviations: NDArray[np.float64] | None = None

    @property
    def standardised(self) -> NDArray[np.float64]:
        """(n,) deviations of these images above the least similar of them; 0 at least."""
        if not len(self.cosines):
            return self.cosines
        found = self.deviations
        if found is None:
            found = self.cosines / max(float(self.cosines.std()), LEAST_DEVIATION)
        above: NDArray[np.float64] = found - found.min()
        return above

    def added_to(self, totals: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
        """(c,) the joint sums, in the joint order, raised where a candidate was read again."""
        raised = totals.copy()
        raised[self.places] += weight * self.standardised
        return raised


def check_pixels_kept(collection: Collection) -> None:
    """Raises FailedPrecondition when there is nothing to read again."""
    if collection.spec.pixels == "none":
        raise FailedPrecondition(
            f"collection {collection.spec.name!r} keeps no pixels that could be read again; rerank needs one "
            "that was made with pixels `original` (or `thumbnail`, at 320 px)",
            field="rerank",
        )


def query_inputs(query: Query, encoded: EncodedQuery, accepts: Container[str]) -> list[ModelInput]:
    """The question as one input for each of its regions, or one. An indexed image is read from its kept
    pixels, its entities as regions.

    accepts: what the embedder takes as it is. Raises FailedPrecondition as a candidate does.
    """
    if encoded.record is not None:
        image = kept_image(encoded.record)
        regions = [entity_region(encoded.record, entity, image) for entity in query.entities]
        return _for_each(image, query.text, regions)
    return _for_each(encoded.image, query.text, [_as_taken(used, accepts) for used in encoded.regions])


def matched_entities(hits: Sequence[Hit], questions: int) -> list[list[int]]:
    """Of each hit the entity that each question is compared with: what its region was matched to."""
    return [
        [hit.entity.index] if questions == 1 else [match.entity.index for match in hit.matches]
        for hit in hits
    ]


def read_again(
    collection: Collection,
    embedder: Embedder,
    questions: Sequence[ModelInput],
    records: Sequence[ImageRecord],
    entities: Sequence[Sequence[int]],
    instruction: str | None = None,
) -> Reading:
    """Reads n candidates with the question; entities: of each the matched one for each of the questions.
    instruction: what they are read with, the bare words; None reads them as they are stored.

    Of several questions, one for each region, the mean of the cosines counts, as in joint scoring.

    A candidate that was deleted or replaced since its record was fetched has no pixels any more that
    its entity lies in, and is left out of the reading.
    Raises FailedPrecondition, naming the image, for one without pixels that can be decoded.
    """
    asked = embedder.embed_inputs([embedder.worded(question, "query") for question in questions])
    places: list[int] = []
    cosines: list[float] = []
    for batch in _batches(_candidate_inputs(collection, records, entities, instruction)):
        worded = [embedder.worded(given, "candidate") for _, inputs in batch for given in inputs]
        vectors = embedder.embed_inputs(worded).astype(np.float64).reshape(len(batch), *asked.shape)
        places.extend(place for place, _ in batch)
        # Row by row, so that a cosine does not depend on how many were read together.
        cosines.extend((vectors * asked).sum(axis=2).mean(axis=1).tolist())
    return Reading(np.array(places, dtype=np.int64), np.array(cosines, dtype=np.float64))


def answer_again(
    hits: Sequence[Hit],
    totals: NDArray[np.float64],
    reading: Reading,
    weight: float,
    calibrator: Calibrator,
    top_n: int,
) -> tuple[Hit, ...]:
    """The first top_n hits in their new order, with their new scores, and the others after them as they are.
    hits, totals: in the joint order, as many or more. calibrator: makes the scores of sums."""
    raised = reading.added_to(totals, weight)[:top_n]
    scores = calibrator.scores(raised).tolist()
    found = {
        place: RerankScore(cosine, above, weight, hits[place].score, place + 1)
        for place, cosine, above in zip(
            reading.places.tolist(), reading.cosines.tolist(), reading.standardised.tolist(), strict=True
        )
    }
    order = ranking(raised, [hit.image_id for hit in hits[:top_n]])
    return (
        *(replace(hits[place], score=scores[place], rerank=found.get(place)) for place in order),
        *hits[top_n:],
    )


def _candidate_inputs(
    collection: Collection,
    records: Sequence[ImageRecord],
    entities: Sequence[Sequence[int]],
    instruction: str | None,
) -> Iterator[tuple[int, list[ModelInput]]]:
    """(place among the records, its inputs), decoded as they are asked for."""
    for place, (record, matched) in enumerate(zip(records, entities, strict=True)):
        try:
            stored = collection.get(record.image_id, pixels=True)
        except ImageNotFound:
            continue
        if stored.number == record.number:
            image = kept_image(stored)
            regions = [entity_region(stored, entity, image) for entity in matched]
            yield place, [ModelInput(image, instruction, region) for region in regions]


def _batches(
    inputs: Iterable[tuple[int, list[ModelInput]]],
) -> Iterator[list[tuple[int, list[ModelInput]]]]:
    """As many as PIXELS_AT_ONCE lets be decoded together, one at least."""
    batch: list[tuple[int, list[ModelInput]]] = []
    pixels = 0
    for place, given in inputs:
        image = given[0].image
        size = 0 if image is None else image.height * image.width
        if batch and pixels + size > PIXELS_AT_ONCE:
            yield batch
            batch, pixels = [], 0
        batch.append((place, given))
        pixels += size
    if batch:
        yield batch


def kept_image(record: ImageRecord) -> Image:
    """The picture that a collection keeps of an image.

    Raises FailedPrecondition, naming the image, when it keeps none or one that cannot be decoded.
    """
    if record.pixels is None:
        raise FailedPrecondition(
            f"image {record.image_id!r:.300} has no kept pixels that could be read again; index it again, "
            "or search without rerank",
            field="rerank",
        )
    try:
        # It was taken in at this size, whatever today's limits are; more than that is not its picture.
        return decode_image(
            record.pixels,
            record.image_id,
            max_megapixels=(record.width * record.height + 1) / 1e6,
            max_bytes=len(record.pixels),
        )
    except InvalidImage as error:
        raise FailedPrecondition(
            f"the kept pixels of image {record.image_id!r:.300} cannot be read again ({error.message:.300}); "
            "index it again, or search without rerank",
            field="rerank",
        ) from error


def entity_region(record: ImageRecord, index: int, image: Image) -> RegionPrompt:
    """An entity's mask at the size of the picture that was kept, which a thumbnail makes smaller."""
    mask = record.entities.masks[index]
    if (mask.height, mask.width) == (image.height, image.width):
        return RegionPrompt(mask=mask)
    resized = mask.resized(image.height, image.width)
    if resized.pixels == 0:
        # Thinner than a pixel of the thumbnail: what is left of it is the pixel that it lies in.
        x, y, box = image.width / mask.width, image.height / mask.height, mask.box()
        small = Box(box.x0 * x, box.y0 * y, box.x1 * x, box.y1 * y)
        resized = Mask.from_box(small, image.height, image.width)
    return RegionPrompt(mask=resized)


def _for_each(image: Image | None, text: str | None, regions: Sequence[RegionPrompt]) -> list[ModelInput]:
    return [ModelInput(image, text, region) for region in regions] or [ModelInput(image, text)]


def _as_taken(used: UsedRegion, accepts: Container[str]) -> RegionPrompt:
    """The caller's own points or box where the model reads such; otherwise the mask that was made of
    them. What points and a shape mean together, only the segmenter knows."""
    prompt = used.prompt
    said = {"point": bool(prompt.points), "box": prompt.box is not None, "mask": prompt.mask is not None}
    kinds = [kind for kind, there in said.items() if there]
    if prompt.polygon is None and len(kinds) == 1 and kinds[0] in accepts:
        return prompt
    return RegionPrompt(mask=used.mask)
