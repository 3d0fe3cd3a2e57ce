"""Exact search in memory: every row is read, with FAISS's inner-product kernel.

Rows lie in blocks of fixed size. A search works on an immutable snapshot of them; a change builds the
next snapshot and publishes it by one assignment, so searches need no lock and see no half change.

All similarities are computed and the k best chosen afterwards, instead of `IndexFlatIP.search` with a
selector: it is no slower at k = 10, faster from some hundreds on, and ties at the cut are known, so
that they can be decided by id (docs/storage.md has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.index import image_numbers
from regionsearch.collection.inner_products import inner_products, load_faiss

BLOCK_BYTES = 8 << 20
"""Of one block's vectors: adding rows never moves more than this."""
DEAD_SHARE_TO_COMPACT = 0.25


@dataclass(frozen=True, eq=False)
class _Block:
    """Vectors (capacity, d) and ids (capacity,), of which the first `rows` are published.

    The arrays are shared with the next snapshot, which only writes beyond `rows`; `dead` (rows,) is
    replaced, never written, because searches may be reading it.
    """

    vectors: NDArray[np.float32]
    ids: NDArray[np.int64]
    rows: int
    dead: NDArray[np.bool_]


class _Snapshot:
    """Blocks that are full, but for the last one; ids ascend throughout."""

    def __init__(self, blocks: tuple[_Block, ...]) -> None:
        self.blocks = blocks
        self.rows = sum(block.rows for block in blocks)
        self.live = self.rows - sum(int(np.count_nonzero(block.dead)) for block in blocks)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        parts = [block.ids[: block.rows] for block in self.blocks]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    @cached_property
    def dead_rows(self) -> NDArray[np.int64]:
        parts = [block.dead for block in self.blocks]
        return np.flatnonzero(np.concatenate(parts)) if parts else np.empty(0, np.int64)


class ExactIndex:
    """A `VectorIndex` without approximation: 4 × d + 9 bytes a row."""

    def __init__(self, dimension: int, *, block_rows: int | None = None) -> None:
        load_faiss()  # Whoever lacks it should hear so now, not at the first search.
        self._dimension = dimension
        self._block_rows = block_rows or max(256, BLOCK_BYTES // (4 * dimension))
        self._snapshot = _Snapshot(())

    def __len__(self) -> int:
        return self._snapshot.live

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self.replace(np.empty(0, np.int64), ids, vectors)

    def delete(self, numbers: NDArray[np.int64]) -> None:
        self.replace(numbers, np.empty(0, np.int64), np.empty((0, self._dimension), np.float32))

    def replace(
        self, numbers: NDArray[np.int64], ids: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> None:
        if vectors.shape != (len(ids), self._dimension):
            raise ValueError(f"vectors {vectors.shape} for {len(ids)} ids of dimension {self._dimension}")
        snapshot = self._snapshot
        last = snapshot.blocks[-1].ids[snapshot.blocks[-1].rows - 1] if snapshot.blocks else -1
        if len(ids) and (ids[0] <= last or (np.diff(ids) <= 0).any()):
            raise ValueError("ids must ascend, and lie above those of the rows that are there")
        blocks = _with_dead(snapshot.blocks, np.unique(numbers))
        changed = _Snapshot(self._appended(blocks, ids, vectors))
        if changed.rows - changed.live > changed.rows * DEAD_SHARE_TO_COMPACT:
            changed = self._compacted(changed)
        self._snapshot = changed

    def search(self, vector: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        snapshot = self._snapshot
        k = min(k, snapshot.live)
        if k <= 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        similarities = self._similarities(snapshot, vector)
        rows = _best_rows(similarities, k)
        return snapshot.ids[rows], similarities[rows]

    def live_images(self) -> NDArray[np.int64]:
        snapshot = self._snapshot
        return np.unique(image_numbers(np.delete(snapshot.ids, snapshot.dead_rows)))

    def _similarities(self, snapshot: _Snapshot, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows,) float32, -inf for the dead."""
        similarities = inner_products([block.vectors[: block.rows] for block in snapshot.blocks], vector)
        similarities[snapshot.dead_rows] = -np.inf
        return similarities

    def _appended(
        self, blocks: tuple[_Block, ...], ids: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> tuple[_Block, ...]:
        grown = list(blocks)
        done = 0
        while done < len(ids):
            if not grown or grown[-1].rows == self._block_rows:
                grown.append(self._empty_block())
            block = grown[-1]
            count = min(len(ids) - done, self._block_rows - block.rows)
            block.vectors[block.rows : block.rows + count] = vectors[done : done + count]
            block.ids[block.rows : block.rows + count] = ids[done : done + count]
            dead = np.concatenate([block.dead, np.zeros(count, bool)])
            grown[-1] = _Block(block.vectors, block.ids, block.rows + count, dead)
            done += count
        return tuple(grown)

    def _empty_block(self) -> _Block:
        vectors = np.empty((self._block_rows, self._dimension), np.float32)
        return _Block(vectors, np.empty(self._block_rows, np.int64), 0, np.zeros(0, bool))

    def _compacted(self, snapshot: _Snapshot) -> _Snapshot:
        """The live rows in new blocks: searches go on in the old ones meanwhile."""
        blocks: tuple[_Block, ...] = ()
        for block in snapshot.blocks:
            live = ~block.dead
            blocks = self._appended(blocks, block.ids[: block.rows][live], block.vectors[: block.rows][live])
        return _Snapshot(blocks)


def _with_dead(blocks: tuple[_Block, ...], numbers: NDArray[np.int64]) -> tuple[_Block, ...]:
    if not len(numbers):
        return blocks
    marked = []
    for block in blocks:
        rows = image_numbers(block.ids[: block.rows])
        # Ids ascend, so a block whose range of images holds none of the numbers is left as it is.
        first, end = np.searchsorted(numbers, [rows[0], rows[-1] + 1])
        if first == end:
            marked.append(block)
            continue
        dead = block.dead | np.isin(rows, numbers[first:end])
        marked.append(_Block(block.vectors, block.ids, block.rows, dead))
    return tuple(marked)


def _best_rows(similarities: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Rows of the k largest, best first, equal ones in the order of rows, which is that of ids."""
    rows: NDArray[np.int64]
    if k < len(similarities):
        cut = np.partition(similarities, len(similarities) - k)[len(similarities) - k]
        rows = np.flatnonzero(similarities > cut)
        level = np.flatnonzero(similarities == cut)[: k - len(rows)]
        rows = np.concatenate([rows, level])
        rows.sort()
    else:
        rows = np.arange(len(similarities), dtype=np.int64)
    return rows[np.argsort(-similarities[rows], kind="stable")]
