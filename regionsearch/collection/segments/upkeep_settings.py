"""When index segments are sealed, merged and compacted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpkeepSettings:
    """docs/index-segments.md says what each is for; defaults are reasoned, not measured. Rows are entities.

    background: whether anything happens by itself; `Collection.seal` and `compact` work in any case.
    seal_rows: unsealed rows at which they are sealed while the collection is searched.
    quiet_seal_rows: the same while nobody searches.
    fan_in: segments of one size that are merged into one of the next.
    largest_rows: of a segment; it bounds the memory of a merge (two to three times its index files).
    dead_share: of a segment's rows, 0 to 1, above which it is written anew without them.
    fresh_bytes: of unsealed vectors in memory; beyond them, writers are slowed.
    room_seconds: how long a writer waits for room at most, each time.
    searched_seconds: how long after a search the collection counts as searched.
    settle_seconds: without a write, after which segments are merged until few are left.
    """

    background: bool = True
    seal_rows: int = 16_384
    quiet_seal_rows: int = 131_072
    fan_in: int = 8
    largest_rows: int = 1_500_000
    dead_share: float = 0.2
    fresh_bytes: int = 384 << 20
    room_seconds: float = 10.0
    searched_seconds: float = 3.0
    settle_seconds: float = 20.0

    @staticmethod
    def small(*, background: bool = True) -> UpkeepSettings:
        """For tests: a few dozen rows make a segment, so that all of it happens all the time."""
        return UpkeepSettings(
            background=background,
            seal_rows=24,
            quiet_seal_rows=24,
            fan_in=3,
            largest_rows=600,
            fresh_bytes=1 << 20,
            settle_seconds=0.5,
        )
