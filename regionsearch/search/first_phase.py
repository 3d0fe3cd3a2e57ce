"""First phase: the entity arm and the global arm propose candidate images."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection
from regionsearch.search.encoding import EncodedQuery
from regionsearch.search.stopwatch import Stopwatch

Vector = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ArmAnswers:
    """entity_ranks, global_ranks: by image number the place, from 1, among the images that the arm brought;
    of an arm that is asked several vectors the best of its places. everything: whether the collection has no
    other images."""

    entity_ranks: Mapping[int, int]
    global_ranks: Mapping[int, int]
    everything: bool

    @property
    def numbers(self) -> list[int]:
        """Distinct, ascending: the union of both arms."""
        return sorted({*self.entity_ranks, *self.global_ranks})

    def among_first(self, places: int) -> set[int]:
        """Those that either arm brought among its first so many."""
        ranked = (*self.entity_ranks.items(), *self.global_ranks.items())
        return {number for number, rank in ranked if rank <= places}


@dataclass(frozen=True, eq=False)
class Arms:
    """What the arms of a collection are asked for one query. left_out: image numbers that they pass over."""

    collection: Collection
    entity: Sequence[Vector]
    whole: Sequence[Vector]
    left_out: Container[int]
    left_out_count: int
    stopwatch: Stopwatch

    @staticmethod
    def of(
        collection: Collection,
        encoded: EncodedQuery,
        left_out: frozenset[int],
        stopwatch: Stopwatch,
        *,
        apart: bool,
    ) -> Arms:
        """apart: of pixels and words together, each is asked alone as well."""
        entity, whole = list(encoded.entity_arms), [encoded.global_arm]
        question = encoded.question
        if apart and question.text is not None and question.image is not None:
            entity += [*question.regions, question.text]
            whole += [question.image, question.text]
        return Arms(collection, entity, whole, left_out, len(left_out), stopwatch)

    def ask(self, width: int, before: ArmAnswers) -> ArmAnswers:
        """Each arm brings `width` distinct images at least, for each vector that it is asked; fewer only when
        the collection has no more.

        before: what they brought at a smaller width. When the global arm now brings the whole collection,
        the entity arm is not asked again: it could only say in which order, at the price of ranking all rows.
        """
        wanted = width + self.left_out_count
        with self.stopwatch.stage("global_arm"):
            by_image = [
                self.collection.search_images(vector, wanted).numbers.tolist() for vector in self.whole
            ]
        everything = any(len(found) < wanted for found in by_image)
        entity_ranks = before.entity_ranks
        if not (everything and entity_ranks):
            with self.stopwatch.stage("entity_arm"):
                by_entity = [_distinct_images(self.collection, vector, wanted) for vector in self.entity]
            entity_ranks = self._ranks(by_entity)
        return ArmAnswers(entity_ranks, self._ranks(by_image), everything)

    def _ranks(self, answers: Sequence[Sequence[int]]) -> dict[int, int]:
        ranks: dict[int, int] = {}
        for answer in answers:
            others = (number for number in answer if number not in self.left_out)
            for rank, number in enumerate(others, start=1):
                ranks[number] = min(rank, ranks.get(number, rank))
        return ranks


def _distinct_images(collection: Collection, vector: Vector, wanted: int) -> list[int]:
    """Widens the entity arm until `wanted` distinct images are seen or no entity is left.

    Many entities of one image can crowd the top, so how many rows are enough is not known before.
    """
    rows = 4 * wanted
    while True:
        found = collection.search(vector, rows).numbers
        # A dict keeps the order in which the images were met, which is from near to far.
        distinct = list(dict.fromkeys(found.tolist()))
        if len(distinct) >= wanted or len(found) < rows:
            # More than wanted would only cost scoring time.
            return distinct[:wanted]
        rows *= 4
