"""The two indexes of a collection, kept in step with its records."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.exact_index import ExactIndex
from regionsearch.collection.index import VectorIndex, image_row_id, row_ids
from regionsearch.collection.record_layout import vectors_of, verify
from regionsearch.errors import DataLoss

_BATCH_IMAGES = 256
"""Images whose vectors are gathered before they go into the indexes: some 20 MB at 33 × 640."""
_NOTHING: NDArray[np.int64] = np.empty(0, np.int64)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Change:
    """What one committed write did. added: (image number, its (1 + n, d) vectors), ascending."""

    generation: int
    buried: Sequence[int] = ()
    added: Sequence[tuple[int, NDArray[np.float32]]] = ()


@dataclass(eq=False)
class Arms:
    """entities and images: the two indexes. generation, last_number: how far they have come.
    damaged: numbers of images that are left out because their record fails its checksum."""

    entities: VectorIndex
    images: VectorIndex
    generation: int
    last_number: int
    damaged: set[int]

    def apply(self, buried: NDArray[np.int64], added: Sequence[tuple[int, NDArray[np.float32]]]) -> None:
        if not added and not len(buried):
            return
        if added:
            entity_ids = np.concatenate([row_ids(number, len(rows) - 1) for number, rows in added])
            entity_vectors = np.concatenate([rows[1:] for _, rows in added])
            image_ids = np.array([image_row_id(number) for number, _ in added], np.int64)
            image_vectors = np.stack([rows[0] for _, rows in added])
            self.entities.replace(buried, entity_ids, entity_vectors)
            self.images.replace(buried, image_ids, image_vectors)
            self.last_number = added[-1][0]
        else:
            self.entities.delete(buried)
            self.images.delete(buried)
        self.damaged.difference_update(buried.tolist())


class SearchArms:
    """Built from the records by the first search, then kept in step.

    Beside this process's writer, each write hands its change over before it is acknowledged. Beside
    another process's, each search compares the collection's generation (one LMDB read) and, when it
    has moved, reads the records that are new. Image numbers only grow, so these are the last ones;
    only when images are fewer than that explains are all keys read, to find those that are gone.
    """

    def __init__(
        self, environment: Environment, rows: CollectionRows, dimension: int, *, is_writer: bool
    ) -> None:
        self._environment = environment
        self._rows = rows
        self._dimension = dimension
        self._is_writer = is_writer
        self._arms: Arms | None = None
        self._changing = threading.Lock()

    def current(self) -> Arms:
        """The indexes with every write that was acknowledged before the call. Raises CollectionNotFound."""
        arms = self._arms
        with self._environment.transaction() as transaction:
            counters = self._rows.counters(transaction)
            if arms is not None and (self._is_writer or arms.generation >= counters.generation):
                return arms
        with self._changing, self._environment.transaction() as transaction:
            if self._arms is None:
                self._arms = self._caught_up(self._empty(), transaction)
            elif not self._is_writer:
                self._caught_up(self._arms, transaction)
            return self._arms

    def publish(self, change: Change) -> None:
        """Called by the writer's thread in the order of commits, before each is acknowledged."""
        with self._changing:
            arms = self._arms
            if arms is None or change.generation <= arms.generation:
                return  # not built yet, or built from records that hold this change already
            try:
                arms.apply(np.array(change.buried, np.int64), change.added)
                arms.generation = change.generation
            except BaseException:
                # The records are right; the next search builds the indexes from them again.
                self._arms = None
                raise

    def _empty(self) -> Arms:
        return Arms(
            entities=ExactIndex(self._dimension),
            images=ExactIndex(self._dimension),
            generation=-1,
            last_number=0,
            damaged=set(),
        )

    def _caught_up(self, arms: Arms, transaction: Any) -> Arms:
        counters = self._rows.counters(transaction)
        first = arms.last_number + 1
        fresh = sum(1 for _ in self._rows.numbers(transaction, first))
        gone = _NOTHING
        if len(arms.images) + len(arms.damaged) + fresh != counters.images:
            live = np.fromiter(self._rows.numbers(transaction), np.int64)
            known = np.concatenate([arms.images.live_images(), np.array(sorted(arms.damaged), np.int64)])
            gone = np.setdiff1d(known, live)
        batch: list[tuple[int, NDArray[np.float32]]] = []
        for number, vectors in self._verified(transaction, first, arms.damaged):
            batch.append((number, vectors))
            if len(batch) == _BATCH_IMAGES:
                arms.apply(_NOTHING, batch)
                batch = []
        # Last, so that a replaced image is never missing: its old rows lead nowhere, its new ones count.
        arms.apply(gone, batch)
        arms.last_number = max(arms.last_number, counters.next_number - 1)
        arms.generation = counters.generation
        return arms

    def _verified(
        self, transaction: Any, first: int, damaged: set[int]
    ) -> Iterable[tuple[int, NDArray[np.float32]]]:
        """Views of the vectors of each image from a number on; those that fail go into `damaged`."""
        for number, value in self._rows.records_from(transaction, first):
            try:
                header = verify(value)
            except DataLoss as error:
                damaged.add(number)
                _log.error(
                    "collection '%s': image number %d is left out of searches: %s",
                    self._rows.name,
                    number,
                    error.message,
                )
                continue
            yield number, vectors_of(value, header)
