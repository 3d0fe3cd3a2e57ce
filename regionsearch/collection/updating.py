"""Changes what of a collection can be changed: its declared fields, and what its index should be good at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.fields.declared_fields import check_indexed_fields
from regionsearch.collection.fields.declaring import Declaring
from regionsearch.collection.group_commit import GroupCommit, Publish
from regionsearch.collection.records import CollectionSpec, IndexedField, IndexWish
from regionsearch.collection.search_arms import Change, SearchArms
from regionsearch.collection.spec_rows import rewrite_spec
from regionsearch.collection.validation import check_index_wish


def updated_spec(
    environment: Environment,
    rows: CollectionRows,
    writer: GroupCommit,
    arms: SearchArms,
    *,
    indexed_fields: Sequence[IndexedField] | None,
    index: IndexWish | None,
    progress: Callable[[float], None] | None,
    check: Callable[[], None] | None,
) -> CollectionSpec | None:
    """See `Collection.update`. None when nothing was asked for."""
    if index is not None:
        check_index_wish(index)
    if indexed_fields is not None:
        check_indexed_fields(indexed_fields)
    spec: CollectionSpec | None = None
    if index is not None:
        wish = index

        def apply(transaction: Any) -> tuple[CollectionSpec, Publish]:
            counters = rows.counters(transaction)
            spec = rewrite_spec(
                environment, transaction, rows.name, rows.number, lambda old: replace(old, index=wish)
            )
            generation = rows.commit_counters(transaction, counters)
            return spec, lambda: arms.publish(Change(generation))

        spec = writer.submit(apply)
    if indexed_fields is not None:
        declaring = Declaring(environment, rows, writer, arms.publish)
        spec = declaring.declare(indexed_fields, progress=progress, check=check)
    return spec
