"""Answers queries: encode, two arms, joint scoring, and reading the best again. Pure of RPC."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection
from regionsearch.config import Limits
from regionsearch.errors import RegionSearchError
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.answer import Answer, Hit
from regionsearch.search.background import CollectionBackground
from regionsearch.search.calibration import Calibrator, QueryFacts
from regionsearch.search.closer_look import closer_embedder, look_closer
from regionsearch.search.encoding import EncodedQuery, Encoder
from regionsearch.search.first_phase import Arms
from regionsearch.search.hits import Found, find_hits
from regionsearch.search.indexed_things import IndexedThings, find_indexed
from regionsearch.search.pages import page_of, token_of
from regionsearch.search.prepared import PreparedCollections
from regionsearch.search.presets import effort_of
from regionsearch.search.query import Query, Rerank
from regionsearch.search.query_checks import check_query
from regionsearch.search.query_filter import QueryFilter
from regionsearch.search.query_parts import has_image, kind_of, needs_models
from regionsearch.search.rerank import (
    answer_again,
    check_pixels_kept,
    matched_entities,
    query_inputs,
    read_again,
)
from regionsearch.search.scoring import Scoring, shipped_scoring
from regionsearch.search.second_phase import Scorer
from regionsearch.search.stopwatch import Stopwatch
from regionsearch.search.widening import Widening, block_ends

ATTEMPTS = 50
"""Searches of one query at most, when images vanish from under it. Of 2,000 queries to ten images that were
replaced without a pause, 545 needed a second one, 9 more than four, none more than six."""
Texts = Mapping[str, NDArray[np.float32]]
"""Vectors of texts that were embedded before, by their words."""


def encoding_at_once() -> int:
    """Queries whose pixels and words are with a model at one time. Each takes memory of its own there,
    on a GPU most of all, and more than half the cores can use gain nothing by company."""
    return max(4, (os.cpu_count() or 1) // 2)


class SearchEngine:
    """Searches any number of collections with the models of one registry. Thread-safe.

    A collection's models are loaded and checked against its fingerprints when it is first searched.
    scoring: the weights and the calibration that make scores; None: those that ship with the package.
    """

    def __init__(
        self, models: ModelRegistry, limits: Limits | None = None, *, scoring: Scoring | None = None
    ) -> None:
        self._models = models
        self._limits = limits or Limits()
        self._scoring = scoring or shipped_scoring()
        self._scored_by = json.dumps(self._scoring.to_json(), sort_keys=True)
        self._prepared = PreparedCollections(models)
        self._encoding = threading.BoundedSemaphore(encoding_at_once())

    def prepare(self, collection: Collection) -> None:
        """Loads and checks the models and brings the background statistics up to date, so that the
        next search need not. Raises FingerprintMismatch, ModelNotFound, ModelUnavailable."""
        self._prepared.prepare(collection)

    def search(self, collection: Collection, query: Query) -> Answer:
        """Answers with exactly `query.limit` hits whenever the collection has so many that qualify.

        The same query to the same content gives the same answer, and the pages of one query are slices of
        one ranking (see `widening`). Raises InvalidRequest and its kin, ImageNotFound, what `prepare` raises,
        and FailedPrecondition when images are to be read again whose pixels are not kept or cannot be
        decoded, or when the collection has changed since the page before.
        """
        return self._search(collection, query, {})

    def search_many(
        self, collection: Collection, queries: Sequence[Query]
    ) -> list[Answer | RegionSearchError]:
        """Each query's answer, or why it was refused, in their order; one does not disturb the others.

        The answers are those that `search` would give one by one, up to the last bits of a model that embeds
        several texts together.
        """
        if not queries:
            return []
        texts = self._embedded_together(collection, queries)

        def answered(query: Query) -> Answer | RegionSearchError:
            try:
                return self._search(collection, query, texts)
            except RegionSearchError as error:
                return error

        with ThreadPoolExecutor(min(len(queries), encoding_at_once())) as threads:
            return list(threads.map(answered, queries))

    def _embedded_together(self, collection: Collection, queries: Sequence[Query]) -> Texts:
        """The vectors of those texts that a model does not read together with pixels."""
        texts: dict[str, None] = {}
        for query in queries:
            if query.text is not None and not has_image(query):
                try:
                    check_query(query, self._limits, self._scoring)
                except RegionSearchError:
                    continue  # it is refused in its own turn
                texts[query.text] = None
        if len(texts) < 2:
            return {}
        try:
            self._prepared.background(collection)
            with self._encoding:
                vectors = self._models.embedder(collection.spec.embedder.name).embed_texts(list(texts))
        except RegionSearchError:
            # Each query meets by itself what is the matter with it, or with the collection.
            return {}
        return dict(zip(texts, vectors, strict=True))

    def _search(self, collection: Collection, query: Query, texts: Texts) -> Answer:
        check_query(query, self._limits, self._scoring)
        if query.rerank is not None:
            check_pixels_kept(collection)
        stopwatch = Stopwatch()
        # Before models load, which may take minutes: a misspelt id is refused at once.
        indexed = find_indexed(query, collection, stopwatch)
        background = self._prepared.background(collection, needs_models=needs_models(query))
        if query.rerank is not None and query.rerank.method == "closer":
            closer_embedder(self._models.embedder(collection.spec.embedder.name))
        # Before anything is read of it: a page that a write overtook is not continued.
        stats = collection.stats
        searched = f"{collection.number} {stats.generation} {background.version} {self._scored_by}"
        page = page_of(query, searched)
        with self._encoding:
            encoder = Encoder(collection, self._models, self._limits, texts)
            encoded = encoder.encode(query, indexed, stopwatch)
        read = 0 if query.rerank is None else query.rerank.top_n
        start, stop = (page - 1) * query.limit, page * query.limit
        # What is read again finds its place among all of it.
        wanted = slice(0, max(stop, read)) if start < read else slice(start, stop)
        for _ in range(ATTEMPTS):
            with stopwatch.stage("fetch"):
                where = QueryFilter.now(collection, query.where)
            scorer = self._scorer(collection, query, indexed, encoded, background, stopwatch, where)
            widening = self._widening(query, scorer, indexed, encoded, stats.images)
            found = find_hits(
                collection,
                widening,
                scorer,
                block_ends(page, query.limit, read),
                wanted,
                query.all_entities,
                stopwatch,
            )
            if found.complete and not widening.overtaken:
                break
            # Images were replaced or deleted between the arms and the answer: those that took their
            # place are found by asking again.
        hits = found.hits
        if query.rerank is not None and start < read and hits:
            with stopwatch.stage("rerank"), self._encoding:
                hits = self._read_again(
                    collection, query, query.rerank, encoded, found, background, widening.calibrator
                )
        more = widening.has_more(stop)
        return Answer(
            hits[start - wanted.start : stop - wanted.start],
            encoded.regions,
            stopwatch.milliseconds,
            background.version,
            collection.spec.name,
            calibration=self._scoring.version,
            next_page_token=token_of(page + 1, query, searched) if more else "",
            notes=() if where is None else where.matching.notes,
        )

    def _scorer(
        self,
        collection: Collection,
        query: Query,
        indexed: IndexedThings,
        encoded: EncodedQuery,
        background: CollectionBackground,
        stopwatch: Stopwatch,
        where: QueryFilter | None,
    ) -> Scorer:
        kind = kind_of(query) if query.per_kind_weights else None
        return Scorer(
            collection=collection,
            question=encoded.question,
            background=background.signals,
            profile=self._scoring.profile(query.weights, kind),
            placements=query.placements,
            left_out=frozenset(indexed.left_out),
            stopwatch=stopwatch,
            filter=where,
        )

    def _widening(
        self, query: Query, scorer: Scorer, indexed: IndexedThings, encoded: EncodedQuery, images: int
    ) -> Widening:
        effort = effort_of(query)
        left_out = frozenset(indexed.left_out.values())
        arms = Arms.of(scorer.collection, encoded, left_out, scorer.stopwatch, apart=effort.apart)
        arms = arms.within(None if scorer.filter is None else scorer.filter.matching)
        facts = QueryFacts(kind_of(query), query.text or "", images, np.empty(0))
        calibration = self._scoring.calibration
        return Widening(arms, scorer, effort, calibration, facts, query.group_by, query.min_score)

    def _read_again(
        self,
        collection: Collection,
        query: Query,
        asked: Rerank,
        encoded: EncodedQuery,
        found: Found,
        background: CollectionBackground,
        calibrator: Calibrator,
    ) -> tuple[Hit, ...]:
        embedder = self._models.embedder(collection.spec.embedder.name)
        records, totals = found.records[: asked.top_n], found.totals[: asked.top_n]
        text = encoded.question.text
        if asked.method == "closer" and text is not None:
            deviation = background.signals["text_entity"].deviation
            close_ups = closer_embedder(embedder)
            reading = look_closer(collection, close_ups, text, deviation, records, totals, asked.counted)
        else:
            questions = query_inputs(query, encoded, embedder.info.accepts)
            entities = matched_entities(found.hits[: asked.top_n], len(questions))
            instruction = query.text if asked.method == "pairwise_instructed" else None
            reading = read_again(collection, embedder, questions, records, entities, instruction)
        return answer_again(found.hits, found.totals, reading, asked.counted, calibrator, asked.top_n)
