"""Inputs become vectors: those that the cache knows are read, the others computed and kept at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.progress import progress_bar
from regionsearch.evaluation.published.benchmark_inputs import DEFAULT_BATCH, BenchmarkInput, Retrieval
from regionsearch.evaluation.published.embedding_cache import EmbeddingCache
from regionsearch.evaluation.published.image_files import ImageFiles
from regionsearch.models.embedder import Embedder, ModelInput

UNREADABLE = -1


@dataclass(slots=True)
class Counts:
    """Inputs of this run: computed, and found in the cache."""

    computed: int = 0
    known: int = 0


class InputVectors:
    """The vectors of one model's inputs. For one thread."""

    def __init__(
        self,
        embedder: Embedder,
        cache: EmbeddingCache,
        images: ImageFiles,
        *,
        batch: int = DEFAULT_BATCH,
    ) -> None:
        self._embedder = embedder
        self._cache = cache
        self._images = images
        self._batch = batch
        self.counts = Counts()
        self._met: set[bytes] = set()

    def rows(self, inputs: Sequence[BenchmarkInput], what: str) -> NDArray[np.int64]:
        """(n,) int64: for each input the row of its vector, UNREADABLE where its picture cannot be read.

        what: how the progress bar names them. Raises what the model raises, with the input's words.
        """
        with progress_bar(f"{what}: reading", len({one.image for one in inputs if one.image})) as bar:
            self._images.scan((one.image for one in inputs if one.image is not None), bar)
        keys = [self._key(one) for one in inputs]
        fresh: dict[bytes, BenchmarkInput] = {}
        for key, one in zip(keys, inputs, strict=True):
            if key is not None and key not in self._cache:
                fresh.setdefault(key, one)
        self._count_known(keys)
        # One picture's inputs together: it is decoded once.
        waiting = sorted(fresh.items(), key=lambda item: (item[1].image is not None, item[1].image or ""))
        with progress_bar(f"{what}: embedding", len(waiting)) as bar:
            for given, ready in self._read_ahead(waiting):
                self._compute(given, ready)
                for _ in given:
                    bar()
        return np.array(
            [self._cache.row(key) if key is not None and key in self._cache else UNREADABLE for key in keys],
            dtype=np.int64,
        )

    def text_rows(self, texts: Sequence[str], what: str) -> NDArray[np.int64]:
        """(n,) int64: rows of words embedded as the engine embeds those of a query."""
        keys = [hashlib.sha256(json.dumps(["words of a query", text]).encode()).digest() for text in texts]
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._cache}
        self._count_known(keys)
        waiting = list(fresh.items())
        with progress_bar(f"{what}: embedding", len(waiting)) as bar:
            for start in range(0, len(waiting), self._batch):
                batch = waiting[start : start + self._batch]
                self._keep([key for key, _ in batch], self._embedder.embed_texts([text for _, text in batch]))
                for _ in batch:
                    bar()
        return np.array([self._cache.row(key) for key in keys], dtype=np.int64)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, d) float32 of rows that `rows` gave, none UNREADABLE."""
        return self._cache.vectors(rows)

    def _count_known(self, keys: Iterable[bytes | None]) -> None:
        """Of keys that this run meets for the first time, before it computes them."""
        first = {key for key in keys if key is not None} - self._met
        self.counts.known += sum(key in self._cache for key in first)
        self._met |= first

    def _key(self, given: BenchmarkInput) -> bytes | None:
        if given.image is None:
            return given.key(None)
        if given.image in self._images.unreadable:
            return None
        return given.key(self._images.digest(given.image))

    def _read_ahead(
        self, waiting: Sequence[tuple[bytes, BenchmarkInput]]
    ) -> Iterator[tuple[Sequence[tuple[bytes, BenchmarkInput]], list[ModelInput | None]]]:
        """Batches with their pictures; the next is decoded while the model computes."""
        batches = [waiting[start : start + self._batch] for start in range(0, len(waiting), self._batch)]
        with ThreadPoolExecutor(1) as reader:
            coming = None
            for place, batch in enumerate(batches):
                ready = self._decoded(batch) if coming is None else coming.result()
                if place + 1 < len(batches):
                    coming = reader.submit(self._decoded, batches[place + 1])
                yield batch, ready

    def _decoded(self, batch: Sequence[tuple[bytes, BenchmarkInput]]) -> list[ModelInput | None]:
        return [self._images.model_input(given) for _, given in batch]

    def _compute(
        self, batch: Sequence[tuple[bytes, BenchmarkInput]], ready: Sequence[ModelInput | None]
    ) -> None:
        keys = [key for (key, _), one in zip(batch, ready, strict=True) if one is not None]
        inputs = [one for one in ready if one is not None]
        if not inputs:
            return
        try:
            vectors = self._embedder.embed_inputs(inputs)
        except InvalidRequest as error:
            # The user must find the line of the benchmark; the model knows only what it was handed.
            first = next(given for (_, given), one in zip(batch, ready, strict=True) if one is not None)
            raise type(error)(
                f"{error.message} (one of {len(inputs)} inputs from {first} on)", field=error.field
            ) from error
        self._keep(keys, vectors)

    def _keep(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        info = self._embedder.info
        if vectors.shape != (len(keys), info.dimension) or not np.isfinite(vectors).all():
            raise AssertionError(f"{info.name} gave vectors {vectors.shape} for {len(keys)} inputs, or NaN")
        self._cache.append(keys, vectors)
        self.counts.computed += len(keys)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What a benchmark lost to pictures that cannot be read."""

    queries: int
    candidates: int
    images: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class EmbeddedRetrieval:
    """A retrieval of which every input has a vector: rows of queries and candidates. kept: (queries,)
    int64, their places among those asked for."""

    retrieval: Retrieval
    query_rows: NDArray[np.int64]
    candidate_rows: NDArray[np.int64]
    kept: NDArray[np.int64]
    left_out: LeftOut


def embed_retrieval(vectors: InputVectors, retrieval: Retrieval) -> EmbeddedRetrieval:
    """Embeds queries and candidates. A candidate that cannot be read is taken out of every list; a query
    is left out when it cannot be read or no candidate that answers it can."""
    query_rows = vectors.rows(retrieval.queries, f"{retrieval.name}, queries")
    candidate_rows = vectors.rows(retrieval.candidates, f"{retrieval.name}, candidates")
    readable = candidate_rows != UNREADABLE
    if readable.all() and (query_rows != UNREADABLE).all():
        kept = np.arange(len(query_rows))
        return EmbeddedRetrieval(retrieval, query_rows, candidate_rows, kept, LeftOut(0, 0, ()))
    renumbered = np.cumsum(readable) - 1
    answers = [renumbered[right[readable[right]]] for right in retrieval.correct]
    kept = np.array(
        [n for n, row in enumerate(query_rows) if row != UNREADABLE and len(answers[n])], dtype=np.int64
    )
    choices = retrieval.choices
    if choices is not None:
        choices = [renumbered[choices[n][readable[choices[n]]]] for n in kept.tolist()]
    lost = _images_of(retrieval.queries, query_rows) | _images_of(retrieval.candidates, candidate_rows)
    return EmbeddedRetrieval(
        Retrieval(
            retrieval.name,
            [retrieval.queries[n] for n in kept.tolist()],
            [retrieval.candidates[n] for n in np.flatnonzero(readable).tolist()],
            choices,
            [answers[n] for n in kept.tolist()],
        ),
        query_rows[kept],
        candidate_rows[readable],
        kept,
        LeftOut(len(query_rows) - len(kept), int((~readable).sum()), tuple(sorted(lost))),
    )


def _images_of(inputs: Iterable[BenchmarkInput], rows: NDArray[np.int64]) -> set[str]:
    return {one.image or "" for one, row in zip(inputs, rows, strict=True) if row == UNREADABLE}
