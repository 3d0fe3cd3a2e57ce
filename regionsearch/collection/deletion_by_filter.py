"""Deletes what a filter matches, in transactions that stay small, while other writes go on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from regionsearch.collection.fields.matching import Matching
from regionsearch.collection.idempotency import digest_of
from regionsearch.collection.writes import CollectionWrites
from regionsearch.errors import StorageFull

IMAGES_AT_ONCE = 500
"""Of one transaction: with 8 entities of 384 dimensions, 2,000 pages of LMDB."""


def delete_matching(
    writes: CollectionWrites,
    matching: Callable[[str], Matching],
    where: str,
    idempotency_key: str,
    *,
    progress: Callable[[float], None] | None,
    check: Callable[[], None] | None,
) -> int:
    """See `Collection.delete_matching`.

    The images are those that match when it begins. Each piece takes out the ones whose number still has
    a record (a replaced image has another number) and whose payload nobody changed since the filter was
    evaluated; those that did change are evaluated again.
    """
    writes.writer()
    once = None
    before = 0
    if idempotency_key:
        once = writes.once(
            idempotency_key, digest_of("delete_matching", [where.encode("utf-8", "surrogatepass")])
        )
        earlier = writes.earlier(once)
        if earlier is not None:
            before = int(earlier["deleted"])
            if earlier["done"]:
                return before
    deleted = before
    found = matching(where)
    numbers = found.image_numbers()
    total, done = max(1, len(numbers)), 0
    while len(numbers):
        changed: list[int] = []
        first, size = 0, IMAGES_AT_ONCE
        while first < len(numbers):
            if check is not None:
                check()
            piece = numbers[first : first + size].tolist()
            try:
                taken, since = writes.bury_unchanged(piece, found.view.generation, once, deleted)
            except StorageFull:
                if size == 1:
                    raise
                size = max(1, size // 4)  # Deleting copies pages; fewer may find room, and then make more.
                continue
            first += len(piece)
            deleted += taken
            done += len(piece) - len(since)
            changed += since
            if progress is not None:
                progress(min(1.0, done / total))
        if not changed:
            break
        found = matching(where)
        numbers = np.intersect1d(found.image_numbers(), np.array(changed, np.int64))
    if once is not None:
        writes.remember(once, {"deleted": deleted, "done": True})
    if progress is not None:
        progress(1.0)
    return deleted
