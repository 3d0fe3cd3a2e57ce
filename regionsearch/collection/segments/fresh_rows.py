"""Fresh rows: searched exactly, in memory, with FAISS's inner-product kernel.

Rows only grow at the end of arrays that older snapshots share, so a change costs what it adds; what is
published is a `FreshPart`, which nothing writes to. Vectors lie in blocks of fixed size, so that growing
never moves them.

All similarities are computed and the k best chosen afterwards, instead of `IndexFlatIP.search` with a
selector: it is no slower at k = 10, faster from some hundreds on, and ties at the cut are known, so
that they can be decided by id (docs/storage.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.inner_products import inner_products, load_faiss
from regionsearch.collection.segments.best_rows import best_rows
from regionsearch.collection.segments.entity_columns import NO_LABEL, EntityColumns
from regionsearch.collection.segments.view import Arm, Found, SearchedPart

BLOCK_BYTES = 8 << 20
"""Of one block's vectors: adding rows never moves more than this."""
DEAD_SHARE_TO_COMPACT = 0.25
FEW_ROWS = 0.125
"""Up to this share of allowed rows they are gathered and compared alone; above it, all are compared and the
others masked, which reads memory in one stream."""


@dataclass(frozen=True, eq=False)
class FreshPart(SearchedPart):
    """entity_vectors, image_vectors: blocks (n_i, d) float32, whose rows are the part's, in order."""

    in_memory: ClassVar[bool] = True

    entity_vectors: tuple[NDArray[np.float32], ...]
    image_vectors: tuple[NDArray[np.float32], ...]

    def nearest(
        self, arm: Arm, vector: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
    ) -> Found:
        blocks = self.entity_vectors if arm == "entities" else self.image_vectors
        if allowed is None and self.dead_images:
            allowed = self.live_rows if arm == "entities" else self.live
        if allowed is None:
            similarities = inner_products(blocks, vector)
            rows = best_rows(similarities, k)
            return Found(rows, similarities[rows], exact=True)
        places = np.flatnonzero(allowed)
        if len(places) > FEW_ROWS * len(allowed):
            similarities = inner_products(blocks, vector)[places]
        else:
            similarities = inner_products([self.gathered(arm, places)], vector)
        rows = best_rows(similarities, k)
        return Found(places[rows], similarities[rows], exact=True)

    def gathered(self, arm: Arm, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, d) float32, a copy: the vectors of these rows, ascending."""
        blocks = self.entity_vectors if arm == "entities" else self.image_vectors
        copied = []
        at = 0
        for block in blocks:
            first, end = np.searchsorted(places, [at, at + len(block)])
            if first < end:
                copied.append(block[places[first:end] - at])
            at += len(block)
        if not copied:
            return np.empty((0, blocks[0].shape[1] if blocks else 1), np.float32)
        return copied[0] if len(copied) == 1 else np.concatenate(copied)


class _Column:
    """An array that grows at its end; what it gave out before is never written again."""

    def __init__(self, dtype: Any, width: int = 0) -> None:
        self._array: NDArray[Any] = np.empty((64, width) if width else 64, dtype)
        self._rows = 0

    def extend(self, values: NDArray[Any]) -> None:
        rows = self._rows + len(values)
        if rows > len(self._array):
            grown = np.empty((max(rows, 2 * len(self._array)), *self._array.shape[1:]), self._array.dtype)
            grown[: self._rows] = self._array[: self._rows]
            self._array = grown
        self._array[self._rows : rows] = values
        self._rows = rows

    def taken(self) -> NDArray[Any]:
        taken = self._array[: self._rows]
        taken.flags.writeable = False
        return taken


class _Vectors:
    """Vectors in blocks (block_rows, d) that never move."""

    def __init__(self, dimension: int, block_rows: int) -> None:
        self._shape = (block_rows, dimension)
        self._blocks: list[NDArray[np.float32]] = []
        self._rows = 0

    def extend(self, vectors: NDArray[np.float32]) -> None:
        size = self._shape[0]
        done = 0
        while done < len(vectors):
            at = self._rows % size
            if at == 0:
                self._blocks.append(np.empty(self._shape, np.float32))
            count = min(len(vectors) - done, size - at)
            self._blocks[-1][at : at + count] = vectors[done : done + count]
            self._rows += count
            done += count

    def taken(self) -> tuple[NDArray[np.float32], ...]:
        size = self._shape[0]
        return tuple(block[: self._rows - at * size] for at, block in enumerate(self._blocks))


class FreshRows:
    """The rows that the next `FreshPart`s are made of. One thread changes them."""

    def __init__(self, dimension: int, *, block_rows: int | None = None) -> None:
        load_faiss()  # Whoever lacks it should hear so now, not at the first search.
        self._dimension = dimension
        self._block_rows = block_rows or max(256, BLOCK_BYTES // (4 * dimension))
        self._begin()
        self._part = self._taken()

    @property
    def part(self) -> FreshPart:
        """As it is now."""
        return self._part

    def replace(
        self,
        buried: NDArray[np.int64],
        added: Sequence[tuple[int, NDArray[np.float32]]],
        columns: Sequence[EntityColumns],
    ) -> FreshPart:
        """The images `buried` die; those added, (number, its (1 + n, d) vectors), ascending and above all
        earlier ones, come with the columns of their n entities. Returns the part after both."""
        part = self._part.without(buried)
        if part is not self._part:
            self._live = _Column(np.bool_)
            self._live.extend(part.live)
        if added:
            self._append(added, columns)
            part = self._taken()
        if part.dead_images > len(part.live) * DEAD_SHARE_TO_COMPACT:
            self._give_back_dead(part)
            part = self._taken()
        # Once, at the end: whoever reads it meanwhile sees all of the change or nothing.
        self._part = part
        return part

    def drop_until(self, number: int) -> FreshPart:
        """Without the images up to this number, which are searched elsewhere from now on."""
        part = self._part
        if len(part.image_numbers) and part.image_numbers[0] <= number:
            sealed = part.image_numbers[part.image_numbers <= number]
            self._give_back_dead(part.without(sealed))
            self._part = self._taken()
        return self._part

    def _begin(self) -> None:
        self._numbers, self._starts, self._live = _Column(np.int64), _Column(np.int64), _Column(np.bool_)
        self._starts.extend(np.zeros(1, np.int64))
        self._areas, self._objectness = _Column(np.float32), _Column(np.float32)
        self._boxes = _Column(np.float32, 4)
        self._labels, self._sources = _Column(np.int32), _Column(np.uint8)
        self._codes: dict[str, int] = {}
        self._table: tuple[str, ...] = ()
        self._entity_vectors = _Vectors(self._dimension, self._block_rows)
        self._image_vectors = _Vectors(self._dimension, self._block_rows)

    def _append(
        self, added: Sequence[tuple[int, NDArray[np.float32]]], columns: Sequence[EntityColumns]
    ) -> None:
        numbers = np.array([number for number, _ in added], np.int64)
        known = self._numbers.taken()
        last = known[-1] if len(known) else -1
        if numbers[0] <= last or (np.diff(numbers) <= 0).any():
            raise ValueError("image numbers must ascend, and lie above those of the rows that are there")
        for (number, vectors), column in zip(added, columns, strict=True):
            if vectors.shape != (1 + len(column), self._dimension):
                raise ValueError(
                    f"image {number}: vectors {vectors.shape} and columns of {len(column)} entities; "
                    f"the dimension is {self._dimension}"
                )
        counts = np.array([len(vectors) - 1 for _, vectors in added], np.int64)
        self._entity_vectors.extend(np.concatenate([vectors[1:] for _, vectors in added]))
        self._image_vectors.extend(np.stack([vectors[0] for _, vectors in added]))
        self._extend_columns(numbers, counts, columns)

    def _extend_columns(
        self, numbers: NDArray[np.int64], counts: NDArray[np.int64], columns: Sequence[EntityColumns]
    ) -> None:
        self._starts.extend(self._starts.taken()[-1] + np.cumsum(counts))
        self._numbers.extend(numbers)
        self._live.extend(np.ones(len(numbers), bool))
        for column in columns:
            self._areas.extend(column.areas)
            self._objectness.extend(column.objectness)
            self._boxes.extend(column.boxes)
            self._labels.extend(self._coded(column))
            self._sources.extend(column.sources)

    def _coded(self, column: EntityColumns) -> NDArray[np.int32]:
        """Its labels as places in the table of all rows, which grows by those that are new."""
        if not column.label_table:
            return column.labels
        codes = [self._codes.setdefault(label, len(self._codes)) for label in column.label_table]
        return np.array([*codes, NO_LABEL], np.int32)[column.labels]

    def _taken(self) -> FreshPart:
        if len(self._table) < len(self._codes):
            self._table = tuple(self._codes)
        columns = EntityColumns(
            self._areas.taken(),
            self._objectness.taken(),
            self._boxes.taken(),
            self._labels.taken(),
            self._sources.taken(),
            self._table,
        )
        return FreshPart(
            self._numbers.taken(),
            self._starts.taken(),
            self._live.taken(),
            columns,
            self._entity_vectors.taken(),
            self._image_vectors.taken(),
        )

    def _give_back_dead(self, old: FreshPart) -> None:
        """The live rows in new arrays: searches go on in the old ones meanwhile."""
        self._begin()
        rows, images = np.flatnonzero(old.live_rows), np.flatnonzero(old.live)
        self._extend_columns(
            old.image_numbers[images], np.diff(old.starts)[images], [old.entities.rows(rows)]
        )
        for begin in range(0, len(rows), self._block_rows):
            self._entity_vectors.extend(old.gathered("entities", rows[begin : begin + self._block_rows]))
        for begin in range(0, len(images), self._block_rows):
            self._image_vectors.extend(old.gathered("images", images[begin : begin + self._block_rows]))
