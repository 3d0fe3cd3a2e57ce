"""Answers queries: encode, two arms, joint scoring. Pure of RPC."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from regionsearch.collection import Candidates, Collection, ImageRecord
from regionsearch.config import Limits
from regionsearch.errors import ReadOnly
from regionsearch.ingest.pinning import check_models
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.background import (
    LEAST_IMAGES,
    CollectionBackground,
    is_due,
    measure_background,
    shipped_background,
)
from regionsearch.search.encoding import encode
from regionsearch.search.first_phase import candidate_numbers
from regionsearch.search.joint_scoring import JointScores, ranking, score_jointly, score_of
from regionsearch.search.query import Answer, Hit, MatchedEntity, PartScore, Query
from regionsearch.search.query_checks import check_query
from regionsearch.search.stopwatch import Stopwatch
from regionsearch.search.weights import resolve_weights

ATTEMPTS = 5
"""Searches of one query at most, when images vanish from under it."""


class SearchEngine:
    """Searches any number of collections with the models of one registry. Thread-safe.

    A collection's models are loaded and checked against its fingerprints when it is first searched.
    """

    def __init__(self, models: ModelRegistry, limits: Limits | None = None) -> None:
        self._models = models
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._opened: WeakKeyDictionary[Collection, _Opened] = WeakKeyDictionary()

    def prepare(self, collection: Collection) -> None:
        """Loads and checks the models and brings the background statistics up to date, so that the
        next search need not. Raises FingerprintMismatch, ModelNotFound, ModelUnavailable."""
        opened = self._open(collection)
        with opened.measuring:
            self._refresh(collection, opened)

    def search(self, collection: Collection, query: Query) -> Answer:
        """Answers with exactly `query.limit` images whenever the collection has that many.

        The same query to the same content gives the same answer.
        Raises InvalidRequest and its kin, ImageNotFound, and what `prepare` raises.
        """
        check_query(query, self._limits)
        background = self._background(collection)
        stopwatch = Stopwatch()
        weights = resolve_weights(query.weights)
        encoded = encode(query, collection, self._models, self._limits, stopwatch)
        own = -1 if query.include_self else encoded.own_number
        for _ in range(ATTEMPTS):
            numbers = candidate_numbers(collection, encoded.vectors, query.limit, own, stopwatch)
            with stopwatch.stage("fetch"):
                candidates = collection.candidates([int(number) for number in numbers])
            hits: tuple[Hit, ...] = ()
            if candidates:
                with stopwatch.stage("joint"):
                    scores = score_jointly(candidates, encoded.vectors, background.signals, weights)
                    order = ranking(scores.totals, candidates.image_ids)
                with stopwatch.stage("fetch"):
                    hits = _hits(collection, candidates, scores, order, query.limit)
            if len(hits) == min(query.limit, len(numbers)):
                break
            # Images were replaced or deleted between the arms and the answer: those that took their
            # place are found by asking again.
        return Answer(hits, encoded.regions, stopwatch.milliseconds, background.version, collection.spec.name)

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


def _hits(
    collection: Collection,
    candidates: Candidates,
    scores: JointScores,
    order: Sequence[int],
    limit: int,
) -> tuple[Hit, ...]:
    """The best `limit` candidates with what an answer shows of them.

    An image deleted since it was scored is passed over for the next best.
    """
    hits: list[Hit] = []
    for start in range(0, len(order), limit):
        places = order[start : start + limit]
        records = collection.records([candidates.numbers[place] for place in places])
        for place, record in zip(places, records, strict=True):
            if record is not None and len(hits) < limit:
                hits.append(_hit(record, scores, place))
        if len(hits) == limit:
            break
    return tuple(hits)


def _hit(record: ImageRecord, scores: JointScores, place: int) -> Hit:
    index = int(scores.entities[place])
    entities = record.entities
    parts = {
        name: PartScore(
            float(scores.raw[place, column]),
            float(scores.standardised[place, column]),
            float(scores.weights[column]),
        )
        for column, name in enumerate(scores.names)
    }
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
        parts=parts,
        entity=entity,
        payload=record.payload,
    )
