"""Annotated photos, indexed and asked as a server indexes and asks.

The photos go through the ingest pipeline into a collection of a temporary data directory; questions go
through the search engine. Annotations reach neither.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import DataDirectory
from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.coco_annotations import AnnotatedPhotos
from regionsearch.evaluation.coco_questions import Question
from regionsearch.evaluation.remembered_features import REMEMBERED_PHOTOS, RememberingModels
from regionsearch.images import Image, load_image
from regionsearch.ingest.pinning import collection_spec
from regionsearch.ingest.pipeline import EncodedImage, Failure, Pipeline
from regionsearch.ingest.upserting import store
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, RegionPrompt
from regionsearch.search.answer import Answer, Hit
from regionsearch.search.engine import SearchEngine
from regionsearch.search.query import Query, QueryRegion
from regionsearch.search.scoring import Scoring

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

MODES: Mapping[str, Mapping[str, float]] = {
    "entity": {"global": 0.0, "text_image": 0.0},
    "global": {"entity": 0.0, "text_entity": 0.0},
    "joint": {},
}
"""Weights by part name; parts that are not named keep their defaults."""

BATCH = 16


@dataclass(frozen=True, eq=False)
class Ranking:
    """All photos in the order of one answer.

    order: (images,) int64 numbers of photos (their place in the order of ids): those returned, best
    first, then the others by id. scores, sums: (returned,) float64 of the first of them: the calibrated
    score, and the weighted sum of the standardised signals before it. boxes: (returned, 4) float64
    pixels of the matched entities.
    """

    order: NDArray[np.int64]
    scores: NDArray[np.float64]
    sums: NDArray[np.float64]
    boxes: NDArray[np.float64]

    def without(self, number: int | None) -> Ranking:
        if number is None:
            return self
        kept = self.order != number
        returned = kept[: len(self.scores)]
        return Ranking(self.order[kept], self.scores[returned], self.sums[returned], self.boxes[returned])


def weighted_sum(hit: Hit) -> float:
    """The weighted sum of a hit's standardised signals: its score before the calibration."""
    return sum(part.weight * part.standardised for part in hit.parts.values())


class PhotoIndex:
    """Indexes `photos` with automatic entities, keeps the collection while the context is open.

    `photos` afterwards are those that were indexed; `failures` name the others: files that cannot be
    decoded, and those whose upright size is not the annotated one, in which no box would be true.
    scoring: what is judged in the place of the shipped weights and calibration.
    Raises InvalidRequest when none is left.
    """

    def __init__(
        self,
        photos: AnnotatedPhotos,
        models: ModelRegistry,
        embedder: str,
        segmenter: str,
        progress: Progress = lambda what, done, of: None,
        scoring: Scoring | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="regionsearch-eval-")
        self._engine = SearchEngine(RememberingModels(models), scoring=scoring)
        self._directory = DataDirectory(Path(self._folder.name) / "data", "write")
        try:
            self._pipeline = Pipeline(models.embedder(embedder), models.segmenter(segmenter), pixels="none")
            self.collection = self._directory.create_collection(
                collection_spec("eval", models.embedder(embedder), models.segmenter(segmenter), pixels="none")
            )
            self.failures = self._index(photos, progress)
            self.photos = photos.without(frozenset(failure.source for failure in self.failures))
            if not self.photos.images:
                raise InvalidRequest(f"no photo could be indexed; the first: {self.failures[0].reason}")
            self._engine.prepare(self.collection)
        except BaseException:
            self.close()
            raise
        self.numbers = {image.image_id: number for number, image in enumerate(self.photos.images)}
        paths = {image.image_id: image.path for image in self.photos.images}

        @lru_cache(maxsize=REMEMBERED_PHOTOS)
        def decoded(image_id: str) -> Image:
            return load_image(paths[image_id])

        self._decoded = decoded

    def _index(self, photos: AnnotatedPhotos, progress: Progress) -> list[Failure]:
        failures: list[Failure] = []
        sizes = {image.image_id: (image.width, image.height) for image in photos.images}
        for start in range(0, len(photos.images), BATCH):
            progress("indexing", start, len(photos.images))
            batch = photos.images[start : start + BATCH]
            records, failed = self._pipeline.run(
                [EncodedImage(image.image_id, image.path.read_bytes()) for image in batch]
            )
            failures += failed
            true = [record for record in records if (record.width, record.height) == sizes[record.image_id]]
            failures += [
                Failure(
                    record.image_id,
                    f"is {record.width} × {record.height} pixels when upright, annotated as "
                    "{} × {}".format(*sizes[record.image_id]),
                )
                for record in records
                if record not in true
            ]
            failures += store(self.collection, self._pipeline, true).failures
        progress("indexing", len(photos.images), len(photos.images))
        return failures

    def search(
        self,
        weights: Mapping[str, float],
        *,
        text: str | None = None,
        image_id: str | None = None,
        box: tuple[float, float, float, float] | None = None,
        limit: int | None = None,
    ) -> Answer:
        """Asks with words, with a photo's pixels, or with a box of that photo; for all photos by default,
        or as many as a server would return."""
        return self._engine.search(
            self.collection,
            Query(
                image=None if image_id is None else self._decoded(image_id),
                image_name=image_id or "",
                regions=() if box is None else (QueryRegion(RegionPrompt(box=Box(*box))),),
                text=text,
                limit=min(Limits().hits, len(self.photos.images) if limit is None else limit),
                weights=weights,
            ),
        )

    def ask(self, question: Question, mode: str) -> Ranking:
        """The ranking of one question by one mode of `MODES`, its own photo still in it."""
        return self.ranking(
            self.search(
                MODES[mode],
                text=question.text,
                image_id=None if question.box is None else question.image_id,
                box=question.box,
            ).hits
        )

    def ask_whole_image(self, image_id: str) -> Ranking:
        """By the plain cosine of the image vectors: no region, no words."""
        hits = self.search({"entity": 0.0, "global": 1.0}, image_id=image_id).hits
        return self.ranking(
            sorted(hits, key=lambda hit: (-hit.parts["global"].raw, hit.image_id)),
        )

    def ranking(self, hits: list[Hit] | tuple[Hit, ...]) -> Ranking:
        returned = np.array([self.numbers[hit.image_id] for hit in hits], dtype=np.int64)
        others = np.setdiff1d(np.arange(len(self.numbers)), returned)
        return Ranking(
            order=np.concatenate([returned, others]),
            scores=np.array([hit.score for hit in hits], dtype=np.float64),
            sums=np.array([weighted_sum(hit) for hit in hits], dtype=np.float64),
            boxes=np.array([hit.entity.box for hit in hits], dtype=np.float64).reshape(-1, 4),
        )

    def close(self) -> None:
        self._directory.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
