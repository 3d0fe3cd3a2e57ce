"""First phase: the entity arm and the global arm propose candidate images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection
from regionsearch.collection.fields.matching import Matching
from regionsearch.search.encoding import EncodedQuery
from regionsearch.search.joint_scoring import JointQuestion
from regionsearch.search.stopwatch import Stopwatch

Vector = NDArray[np.float32]
Reach = Mapping[bytes, float]
"""By the bytes of a vector that an arm was asked: what similarity with it an image that the arm did not bring
has at most; -inf when there is none."""

FEW = 2
"""Times the width: where no more images may match, they are all scored. The two arms would bring as many."""


@dataclass(frozen=True, eq=False)
class ArmAnswers:
    """entity_ranks, global_ranks: by image number the place, from 1, among the images that the arm brought;
    of an arm that is asked several vectors the best of its places. everything: whether no other images may
    match. unranked: images that are candidates without having been brought by an arm.
    entity_reach, global_reach: of each arm."""

    entity_ranks: Mapping[int, int]
    global_ranks: Mapping[int, int]
    everything: bool
    unranked: Sequence[int] = ()
    entity_reach: Reach = field(default_factory=dict)
    global_reach: Reach = field(default_factory=dict)

    @property
    def numbers(self) -> list[int]:
        """Distinct, ascending: the union of both arms and of those without a rank."""
        return sorted({*self.entity_ranks, *self.global_ranks, *self.unranked})

    def among_first(self, places: int) -> set[int]:
        """Those that either arm brought among its first so many."""
        ranked = (*self.entity_ranks.items(), *self.global_ranks.items())
        return {number for number, rank in ranked if rank <= places}


@dataclass(frozen=True, eq=False)
class Arms:
    """What the arms of a collection are asked for one query. left_out: image numbers that they pass over.
    matching: the images and entities among which they look; None: all."""

    collection: Collection
    entity: Sequence[Vector]
    whole: Sequence[Vector]
    left_out: frozenset[int]
    stopwatch: Stopwatch
    matching: Matching | None = None

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
        arms = Arms(collection, encoded.entity_arms, [encoded.global_arm], left_out, stopwatch)
        question = encoded.question
        both = question.text is not None and question.image is not None
        return arms.asked_apart(question) if apart and both else arms

    def asked_apart(self, question: JointQuestion) -> Arms:
        """Asked with each thing that candidates are compared with as well."""
        entities = [*self.entity, *question.of_entities]
        words = [] if question.text is None else [question.text]
        return replace(
            self, entity=_different(entities), whole=_different([*self.whole, *question.of_images, *words])
        )

    def within(self, matching: Matching | None) -> Arms:
        """The same, looking among these images and entities."""
        return replace(self, matching=matching)

    def ask(self, width: int, before: ArmAnswers) -> ArmAnswers:
        """Each arm brings `width` distinct images at least, for each vector that it is asked; fewer only when
        the collection has no more.

        before: what they brought at a smaller width. When the global arm now brings all that may match, the
        entity arm is not asked again: it could only say in which order, at the price of ranking all rows.
        Where few may match, neither is asked.
        """
        wanted = width + len(self.left_out)
        if self.matching is not None and self.matching.image_count <= FEW * wanted:
            few = [number for number in self.matching.image_numbers().tolist() if number not in self.left_out]
            return ArmAnswers(before.entity_ranks, before.global_ranks, everything=True, unranked=few)
        by_image, by_entity = [], []
        global_reach, entity_reach = {}, dict(before.entity_reach)
        with self.stopwatch.stage("global_arm"):
            for vector in self.whole:
                found = self.collection.search_images(vector, wanted, self.matching)
                by_image.append(found.numbers.tolist())
                complete = len(found.numbers) < wanted
                global_reach[vector.tobytes()] = -math.inf if complete else float(found.similarities[-1])
        everything = any(len(found) < wanted for found in by_image)
        entity_ranks = before.entity_ranks
        if not (everything and entity_ranks):
            with self.stopwatch.stage("entity_arm"):
                for vector in self.entity:
                    distinct, reach = self._distinct_images(vector, wanted)
                    by_entity.append(distinct)
                    entity_reach[vector.tobytes()] = reach
            entity_ranks = self._ranks(by_entity)
        return ArmAnswers(
            entity_ranks,
            self._ranks(by_image),
            everything,
            entity_reach=entity_reach,
            global_reach=global_reach,
        )

    def _distinct_images(self, vector: Vector, wanted: int) -> tuple[list[int], float]:
        """Widens the entity arm until `wanted` distinct images are seen or no entity is left; and the arm's
        reach.

        Many entities of one image can crowd the top, so how many rows are enough is not known before.
        """
        rows = 4 * wanted
        while True:
            found = self.collection.search(vector, rows, self.matching)
            numbers, first = np.unique(found.numbers, return_index=True)
            if len(numbers) >= wanted or len(found.numbers) < rows:
                # In the order in which the images were met, from near to far; more than wanted would only
                # cost scoring time.
                met = np.sort(first)
                if len(met) > wanted:
                    reach = float(found.similarities[met[wanted]])
                else:
                    reach = -math.inf if len(found.numbers) < rows else float(found.similarities[-1])
                return found.numbers[met[:wanted]].tolist(), reach
            rows *= 4

    def _ranks(self, answers: Sequence[Sequence[int]]) -> dict[int, int]:
        ranks: dict[int, int] = {}
        for answer in answers:
            others = (number for number in answer if number not in self.left_out)
            for rank, number in enumerate(others, start=1):
                ranks[number] = min(rank, ranks.get(number, rank))
        return ranks


def _different(vectors: Sequence[Vector]) -> list[Vector]:
    """Each once, in the order in which they first stand."""
    return list({vector.tobytes(): vector for vector in vectors}.values())
