"""Answers queries: encode, two arms, joint scoring, and reading the best again. Pure of RPC."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Candidates, Collection, ImageRecord
from regionsearch.config import Limits
from regionsearch.errors import ReadOnly
from regionsearch.ingest.pinning import check_models
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.answer import Answer, Hit, MatchedEntity
from regionsearch.search.background import (
    LEAST_IMAGES,
    CollectionBackground,
    is_due,
    measure_background,
    shipped_background,
)
from regionsearch.search.encoding import EncodedQuery, encode, indexed_image
from regionsearch.search.first_phase import candidate_numbers
from regionsearch.search.joint_scoring import JointQuestion, JointScores, ranking, score_jointly, score_of
from regionsearch.search.query import Query, Rerank
from regionsearch.search.query_checks import check_query
from regionsearch.search.rerank import answer_again, check_pixels_kept, query_input, read_again
from regionsearch.search.scoring import shipped_scoring
from regionsearch.search.stopwatch import Stopwatch

ATTEMPTS = 5
"""Searches of one query at most, when images vanish from under it."""


def encoding_at_once() -> int:
    """Queries whose pixels and words are with a model at one time. Each takes memory of its own there,
    on a GPU most of all, and more than half the cores can use gain nothing by company."""
    return max(4, (os.cpu_count() or 1) // 2)


class SearchEngine:
    """Searches any number of collections with the models of one registry. Thread-safe.

    A collection's models are loaded and checked against its fingerprints when it is first searched.
    """

    def __init__(self, models: ModelRegistry, limits: Limits | None = None) -> None:
        self._models = models
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._opened: WeakKeyDictionary[Collection, _Opened] = WeakKeyDictionary()
        self._encoding = threading.BoundedSemaphore(encoding_at_once())

    def prepare(self, collection: Collection) -> None:
        """Loads and checks the models and brings the background statistics up to date, so that the
        next search need not. Raises FingerprintMismatch, ModelNotFound, ModelUnavailable."""
        opened = self._open(collection)
        with opened.measuring:
            self._refresh(collection, opened)

    def search(self, collection: Collection, query: Query) -> Answer:
        """Answers with exactly `query.limit` images whenever the collection has that many.

        The same query to the same content gives the same answer.
        Raises InvalidRequest and its kin, ImageNotFound, what `prepare` raises, and FailedPrecondition
        when images are to be read again whose pixels are not kept or cannot be decoded.
        """
        check_query(query, self._limits)
        if query.rerank is not None:
            check_pixels_kept(collection)
        stopwatch = Stopwatch()
        # Before models load, which may take minutes: a misspelt id is refused at once.
        indexed = indexed_image(query, collection, stopwatch)
        background = self._background(collection)
        profile = shipped_scoring().profile(query.weights)
        with self._encoding:
            encoded = encode(query, indexed, collection, self._models, self._limits, stopwatch)
        own = -1 if query.include_self else encoded.own_number
        wanted = query.limit if query.rerank is None else max(query.limit, query.rerank.top_n)
        question = JointQuestion.of(encoded.vectors)
        for _ in range(ATTEMPTS):
            found = _Found()
            numbers = candidate_numbers(collection, encoded.vectors, wanted, own, stopwatch)
            with stopwatch.stage("fetch"):
                candidates = collection.candidates(numbers.tolist(), compared_with=question.vectors)
            if candidates:
                with stopwatch.stage("joint"):
                    scores = score_jointly(candidates, question, background.signals, profile)
                    order = ranking(scores.totals, candidates.image_ids)
                with stopwatch.stage("fetch"):
                    found = _found(collection, candidates, scores, order, wanted)
            if len(found.hits) == min(wanted, len(numbers)):
                break
            # Images were replaced or deleted between the arms and the answer: those that took their
            # place are found by asking again.
        hits = found.hits
        if query.rerank is not None and hits:
            with stopwatch.stage("rerank"), self._encoding:
                hits = self._read_again(collection, query, query.rerank, encoded, found)
        return Answer(
            hits[: query.limit],
            encoded.regions,
            stopwatch.milliseconds,
            background.version,
            collection.spec.name,
        )

    def _read_again(
        self, collection: Collection, query: Query, asked: Rerank, encoded: EncodedQuery, found: _Found
    ) -> tuple[Hit, ...]:
        embedder = self._models.embedder(collection.spec.embedder.name)
        question = query_input(query, encoded, embedder.info.accepts)
        entities = [hit.entity.index for hit in found.hits[: asked.top_n]]
        instruction = query.text if asked.method == "pairwise_instructed" else None
        records = found.records[: asked.top_n]
        reading = read_again(collection, embedder, question, records, entities, instruction)
        return answer_again(found.hits, found.totals, reading, asked.weight)

    def _open(self, collection: Collection) -> _Opened:
        with self._lock:
            opened = self._opened.setdefault(collection, _Opened())
        # Loading one collection's models and index keeps nobody from searching another.
        with opened.opening:
            if opened.shipped is None:
                embedder = self._models.embedder(collection.spec.embedder.name)
                check_models(collection.spec, embedder)
                collection.load()
                stored = collection.background()
                opened.measured = None if stored is None else CollectionBackground.from_json(stored)
                opened.shipped = shipped_background(embedder)
        return opened

    def _background(self, collection: Collection) -> CollectionBackground:
        """What standardises the signals now; while another thread measures, what is at hand goes on
        serving."""
        opened = self._open(collection)
        if opened.measuring.acquire(blocking=False):
            try:
                self._refresh(collection, opened)
            finally:
                opened.measuring.release()
        shipped, measured = opened.shipped, opened.measured
        if shipped is None:
            raise AssertionError("an opened collection knows what its embedder ships")
        return shipped if measured is None or collection.stats.images < LEAST_IMAGES else measured

    def _refresh(self, collection: Collection, opened: _Opened) -> None:
        if not is_due(opened.measured, collection.stats.images):
            return
        stored = collection.background()
        if stored is not None:
            # Another process may have measured since we looked.
            opened.measured = CollectionBackground.from_json(stored)
            if not is_due(opened.measured, collection.stats.images):
                return
        embedder = self._models.embedder(collection.spec.embedder.name)
        opened.measured = measure_background(collection, embedder)
        if opened.measured is not None:
            try:
                collection.set_background(opened.measured.to_json())
            except ReadOnly:
                # A reader keeps its statistics to itself: only a writer can store them for all.
                return


@dataclass(slots=True)
class _Opened:
    """What the engine knows of a collection. shipped: None until its models are loaded and checked."""

    shipped: CollectionBackground | None = None
    measured: CollectionBackground | None = None
    opening: threading.Lock = field(default_factory=threading.Lock)
    measuring: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, eq=False)
class _Found:
    """The best of the joint ranking, best first: what an answer shows of each, its record, and its
    weighted sum (n,) float64."""

    hits: tuple[Hit, ...] = ()
    records: tuple[ImageRecord, ...] = ()
    totals: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


def _found(
    collection: Collection,
    candidates: Candidates,
    scores: JointScores,
    order: Sequence[int],
    wanted: int,
) -> _Found:
    """The best `wanted` candidates.

    An image deleted since it was scored is passed over for the next best.
    """
    live: list[tuple[int, ImageRecord]] = []
    for start in range(0, len(order), wanted):
        places = order[start : start + wanted]
        records = collection.records([candidates.numbers[place] for place in places])
        there = [(place, record) for place, record in zip(places, records, strict=True) if record is not None]
        live += there[: wanted - len(live)]
        if len(live) == wanted:
            break
    return _Found(
        tuple(_hit(record, scores, place) for place, record in live),
        tuple(record for _, record in live),
        scores.totals[[place for place, _ in live]],
    )


def _hit(record: ImageRecord, scores: JointScores, place: int) -> Hit:
    index = int(scores.matches[place, 0])
    entities = record.entities
    x0, y0, x1, y1 = (float(value) for value in entities.boxes[index])
    entity = MatchedEntity(
        index=index,
        box=(x0, y0, x1, y1),
        area=float(entities.areas[index]),
        objectness=float(entities.objectness[index]),
        label=entities.labels[index],
        label_source=entities.label_sources[index],
        mask=entities.masks[index],
    )
    return Hit(
        image_id=record.image_id,
        width=record.width,
        height=record.height,
        score=score_of(float(scores.totals[place])),
        parts=scores.parts(place),
        entity=entity,
        payload=record.payload,
    )
