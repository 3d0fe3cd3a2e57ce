"""What a collection says of itself in numbers."""

from __future__ import annotations

from regionsearch.collection.catalog import CollectionRows
from regionsearch.collection.environment import Environment
from regionsearch.collection.fill_level import fill_warning
from regionsearch.collection.records import CollectionSpec, CollectionStats
from regionsearch.collection.search_arms import SearchArms


def collection_stats(
    environment: Environment,
    rows: CollectionRows,
    spec: CollectionSpec,
    arms: SearchArms,
    failed_buffered_writes: int,
) -> CollectionStats:
    """As of the last commit. Raises CollectionNotFound."""
    with environment.transaction() as transaction:
        counters = rows.counters(transaction)
    segments, fresh_rows, deleted_rows = arms.segment_stats()
    fill = environment.fill()
    warnings = [fill_warning(environment, fill), *arms.warnings()]
    if failed_buffered_writes:
        warnings.append(f"{failed_buffered_writes:,} buffered writes failed after being acknowledged")
    warnings.extend(str(problem) for problem in environment.damaged)
    return CollectionStats(
        name=spec.name,
        images=counters.images,
        entities=counters.entities,
        dimension=spec.embedder.dimension,
        bytes=counters.stored_bytes,
        generation=counters.generation,
        fill=fill,
        segments=segments,
        fresh_rows=fresh_rows,
        deleted_rows=deleted_rows,
        warnings=tuple(warning for warning in warnings if warning),
    )
