"""Pages of what a collection has, in the order of ids, of all of it or of what a filter lets through."""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import page_tokens
from regionsearch.collection.catalog import CollectionRows, IdRow
from regionsearch.collection.environment import Environment
from regionsearch.collection.fields.filtering import Filtering
from regionsearch.collection.fields.matching import Matching
from regionsearch.collection.record_layout import image_id_of
from regionsearch.collection.records import ImageListing
from regionsearch.collection.search_arms import SearchArms
from regionsearch.errors import InvalidRequest

MAX_PAGE_SIZE = 1_000
_TRIES = 3


class CollectionListing:
    """See `Collection.list`."""

    def __init__(
        self, environment: Environment, rows: CollectionRows, arms: SearchArms, filtering: Filtering
    ) -> None:
        self._environment = environment
        self._rows = rows
        self._arms = arms
        self._filtering = filtering

    def page(
        self, page_size: int, page_token: str, prefix: str, where: str
    ) -> tuple[list[ImageListing], str]:
        if not 1 <= page_size <= MAX_PAGE_SIZE:
            raise InvalidRequest(f"page_size is {page_size}, outside 1 to {MAX_PAGE_SIZE}", field="page_size")
        name = self._rows.name
        after = page_tokens.last_id_of(page_token, name, prefix, where) if page_token else ""
        with self._rows_after(after, prefix, where, page_size + 1) as rows:
            listings = [row.listing(image_id) for image_id, row in rows]
        if len(listings) <= page_size:
            return listings, ""
        del listings[page_size:]
        return listings, page_tokens.page_token(name, prefix, listings[-1].image_id, where)

    def ids(self) -> Iterator[str]:
        token = ""
        while True:
            listings, token = self.page(MAX_PAGE_SIZE, token, "", "")
            yield from (listing.image_id for listing in listings)
            if not token:
                return

    @contextlib.contextmanager
    def _rows_after(
        self, after: str, prefix: str, where: str, count: int
    ) -> Iterator[list[tuple[str, IdRow]]]:
        """The first rows behind an id, up to a count."""
        if not where.strip():
            with self._environment.transaction() as transaction:
                self._rows.counters(transaction)
                yield _first(self._rows.id_rows(transaction, after, prefix), count)
            return
        with self._matched(where) as (transaction, found):
            images = self._rows.counters(transaction).images
            # Either all ids are walked until enough of them match, or the ids of all that match are read.
            if found.image_count * found.image_count <= count * images:
                yield self._among_few(transaction, found.image_numbers(), after, prefix, count)
            else:
                numbers = set(found.image_numbers().tolist())
                rows = self._rows.id_rows(transaction, after, prefix)
                yield _first(((each, row) for each, row in rows if row.number in numbers), count)

    def _among_few(
        self, transaction: Any, numbers: NDArray[np.int64], after: str, prefix: str, count: int
    ) -> list[tuple[str, IdRow]]:
        ids = []
        for number in numbers.tolist():
            value = self._rows.record(transaction, number)
            if value is not None:
                ids.append(image_id_of(value, self._rows.record_key(number)))
        wanted = (each for each in ids if each.startswith(prefix) and _order(each) > _order(after))
        rows = (
            (each, self._rows.id_row(transaction, each)) for each in heapq.nsmallest(count, wanted, _order)
        )
        return [(each, row) for each, row in rows if row is not None]

    @contextlib.contextmanager
    def _matched(self, where: str) -> Iterator[tuple[Any, Matching]]:
        """What matches, and a read transaction of the same moment."""
        for _ in range(_TRIES):
            found = self._filtering.matching(where)
            with self._environment.transaction() as transaction:
                if self._rows.counters(transaction).generation == found.view.generation:
                    yield transaction, found
                    return
        while True:  # Writes come faster than the filter is evaluated: first the moment, then the filter.
            with self._environment.transaction() as transaction:
                view = self._arms.current()
                if self._rows.counters(transaction).generation == view.generation:
                    yield transaction, self._filtering.matching_in(view, where, transaction)
                    return


def _first(rows: Iterator[tuple[str, IdRow]], count: int) -> list[tuple[str, IdRow]]:
    return list(itertools.islice(rows, count))


def _order(image_id: str) -> bytes:
    """As LMDB orders ids."""
    return image_id.encode()
