"""The thread that seals, merges, compacts and mends the index segments of a data directory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from regionsearch.collection.search_arms import SearchArms
from regionsearch.collection.segments.opening import IndexedPart
from regionsearch.collection.segments.rewriting import Purpose, write_segment
from regionsearch.collection.segments.scanned_part import ScannedPart
from regionsearch.collection.segments.tiers import due_merge, largest_run
from regionsearch.collection.segments.upkeep_pace import Check, Progress, UpkeepPace
from regionsearch.collection.segments.upkeep_settings import UpkeepSettings
from regionsearch.collection.steps import reached
from regionsearch.errors import Cancelled, CollectionNotFound, FailedPrecondition, RegionSearchError

_SECONDS_BETWEEN_LOOKS = 0.05
_SECONDS_AFTER_A_FAILURE = 30.0
_log = logging.getLogger(__name__)

DEFAULT_UPKEEP = UpkeepSettings()

__all__ = ["DEFAULT_UPKEEP", "Upkeep", "UpkeepSettings"]


@dataclass(eq=False)
class _Order:
    """Something that a caller wants done now."""

    arms: SearchArms
    compact: bool
    progress: Progress | None
    check: Check | None
    merge: bool
    done: Future[None] = field(default_factory=Future)


class Upkeep:
    """One thread for all collections of a directory that is open for writing, started when there is
    something to do. It builds one segment at a time; while one is merged, fresh rows that have become many
    are sealed in between, so that neither searches nor writers wait for the end of a long merge."""

    def __init__(self, settings: UpkeepSettings) -> None:
        self.settings = settings
        self._woken = threading.Condition()
        self._orders: list[_Order] = []
        self._noticed: dict[int, SearchArms] = {}
        self._resting_until: dict[int, float] = {}
        self._dropped: set[int] = set()
        self._failures: dict[int, str] = {}
        self._busy_with: set[int] = set()
        self._closing = False
        self._thread: threading.Thread | None = None

    # any thread

    def notice(self, arms: SearchArms) -> None:
        """There may be something to do for this collection. Returns at once."""
        if not self.settings.background or arms.rows.number in self._noticed:
            return
        with self._woken:
            self._noticed[arms.rows.number] = arms
            self._start()
            self._woken.notify_all()

    def order(
        self,
        arms: SearchArms,
        *,
        compact: bool,
        progress: Progress | None,
        check: Check | None,
        wait: bool,
        merge: bool = True,
    ) -> None:
        """Seals all fresh rows and does every merge that is due; with `compact` leaves no dead row and as few
        segments as there can be. merge: or rewrites those segments alone that have dead rows. wait: until
        that is done.

        Raises what `check` raises, CollectionNotFound, StorageFull; what was published before stays.
        """
        arms.refuse_fork()
        order = _Order(arms, compact, progress, check, merge)
        with self._woken:
            if self._closing:
                raise FailedPrecondition("the data directory is closed")
            self._orders.append(order)
            self._start()
            self._woken.notify_all()
        if wait:
            order.done.result()

    def wait_for_room(self, arms: SearchArms) -> None:
        """Called before rows are added: waits, for a bounded time, while so many are unsealed that memory
        would run full."""
        if not self.settings.background:
            return
        rows = max(self.settings.quiet_seal_rows, self.settings.fresh_bytes // arms.row_bytes)
        if arms.loaded() and arms.unsealed_rows() >= rows:
            self.notice(arms)
            arms.wait_until_sealed(rows, self.settings.room_seconds)

    def failure(self, collection: int) -> str:
        """Why the segments of a collection are not kept up at present; "" when they are."""
        return self._failures.get(collection, "")

    def forget(self, collection: int) -> None:
        """A collection is dropped: gives up what is being built of it, and returns when its files are left
        alone."""
        with self._woken:
            self._dropped.add(collection)
            arms = self._noticed.pop(collection, None)
            self._woken.wait_for(lambda: collection not in self._busy_with)
        if arms is not None:
            arms.stop_waiting()

    def close(self) -> None:
        """Gives up what is being built, and ends the thread. Orders that wait raise Cancelled."""
        with self._woken:
            self._closing = True
            noticed = list(self._noticed.values())
            self._woken.notify_all()
        for arms in noticed:
            arms.stop_waiting()
        if self._thread is not None:
            self._thread.join()
        for order in self._orders:
            order.done.set_exception(Cancelled("the data directory was closed"))

    def _start(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="regionsearch-upkeep", daemon=True)
            self._thread.start()

    # its own thread

    def _run(self) -> None:
        while (work := self._next()) is not None:
            if isinstance(work, _Order):
                self._obey(work)
            else:
                self._tend(work)
            with self._woken:
                self._busy_with.clear()
                self._woken.notify_all()

    def _next(self) -> _Order | SearchArms | None:
        """What to do next; None at the end. Waits while there is nothing."""
        with self._woken:
            while not self._closing:
                if self._orders:
                    order = self._orders.pop(0)
                    self._busy_with.add(order.arms.rows.number)
                    return order
                now = time.monotonic()
                for number, arms in list(self._noticed.items()):
                    if self._resting_until.get(number, 0) <= now:
                        self._resting_until[number] = now + _SECONDS_BETWEEN_LOOKS
                        self._busy_with.add(number)
                        # Behind the others, so that none waits for one that always has something to do.
                        self._noticed[number] = self._noticed.pop(number)
                        return arms
                self._woken.wait(_SECONDS_BETWEEN_LOOKS if self._noticed else None)
            return None

    def _obey(self, order: _Order) -> None:
        pace = UpkeepPace(self, order.arms, order.progress, order.check)
        try:
            pace.breathe(0.0)
            if order.merge:
                was_frozen = order.arms.is_frozen()
                self._seal(order.arms, pace)
                if was_frozen:
                    self._seal(order.arms, pace)  # that was what an earlier seal did not finish
                self._settle(order.arms, pace, compact=order.compact)
            while not order.merge and self._rewrite_poorest(order.arms, pace, 0.0):
                pass
            pace.breathe(1.0)
        except BaseException as error:
            order.done.set_exception(error)
        else:
            self._failures.pop(order.arms.rows.number, None)
            order.done.set_result(None)

    def _tend(self, arms: SearchArms) -> None:
        number = arms.rows.number
        try:
            pace = UpkeepPace(self, arms, None, None)
            while self._step(arms, pace):
                self._failures.pop(number, None)
                if self._orders or len(self._noticed) > 1:
                    return
            self._failures.pop(number, None)
            if self._is_settled(arms):
                with self._woken:
                    self._noticed.pop(number, None)
        except (Cancelled, CollectionNotFound):
            with self._woken:
                self._noticed.pop(number, None)
        except Exception as error:
            self._rest_after(arms, error)

    def _rest_after(self, arms: SearchArms, error: Exception) -> None:
        # Nothing is lost: what could not be built is searched as it was. Disks fill up and are emptied.
        number = arms.rows.number
        self._failures[number] = error.message if isinstance(error, RegionSearchError) else repr(error)
        _log.error(
            "collection '%s': its index segments could not be kept up; next try in %.0f s",
            arms.rows.name,
            _SECONDS_AFTER_A_FAILURE,
            exc_info=error,
        )
        self._resting_until[number] = time.monotonic() + _SECONDS_AFTER_A_FAILURE

    def _step(self, arms: SearchArms, pace: UpkeepPace) -> bool:
        """Does what is most urgent; False when nothing is due."""
        settings = self.settings
        if arms.unsealed_rows() >= self.seal_rows(arms):
            return self._seal(arms, pace)
        if not arms.loaded():
            return False
        segments = arms.segments()
        for part in segments:
            if isinstance(part, ScannedPart):
                return self._rewrite(arms, [part], "compact", pace)
        merge = due_merge(
            [part.live_row_count for part in segments],
            unit=settings.seal_rows,
            fan_in=settings.fan_in,
            largest=settings.largest_rows,
            settled=self._is_quiet(arms),
        )
        if merge is not None:
            return self._rewrite(arms, segments[merge], "merge", pace)
        for part in segments:
            if _dead_share(part) > settings.dead_share:
                return self._rewrite(arms, [part], "compact", pace)
        return False

    def _is_settled(self, arms: SearchArms) -> bool:
        """Whether nothing can become due before the next write."""
        if not arms.loaded():
            return True
        return self._is_quiet(arms) and arms.unsealed_rows() < self.settings.seal_rows

    def _is_quiet(self, arms: SearchArms) -> bool:
        """Whether nothing was written lately."""
        return time.monotonic() - arms.last_write > self.settings.settle_seconds

    def seal_rows(self, arms: SearchArms) -> int:
        """From how many unsealed rows on they are sealed: few while somebody searches, for each costs every
        search some time; more while rows pour in and nobody does, for each segment costs merging."""
        few = self.is_searched(arms) or self._is_quiet(arms)
        return self.settings.seal_rows if few else self.settings.quiet_seal_rows

    def is_searched(self, arms: SearchArms) -> bool:
        """Whether it was a moment ago."""
        return time.monotonic() - arms.last_search < self.settings.searched_seconds

    def is_dropped(self, arms: SearchArms) -> bool:
        return arms.rows.number in self._dropped

    def is_stopping(self, arms: SearchArms) -> bool:
        return self._closing or self.is_dropped(arms)

    def _settle(self, arms: SearchArms, pace: UpkeepPace, *, compact: bool) -> None:
        """Merges until each segment is larger than all newer ones together; with `compact` until no two
        neighbours fit into one, and none has a dead row."""
        settings = self.settings
        while True:
            segments = arms.segments()
            rows = [part.live_row_count for part in segments]
            merge = due_merge(
                rows,
                unit=settings.seal_rows,
                fan_in=settings.fan_in,
                largest=settings.largest_rows,
                settled=True,
            )
            if compact:
                merge = largest_run(rows, settings.largest_rows)
            if merge is not None:
                self._rewrite(arms, segments[merge], "merge", pace)
                continue
            if not self._rewrite_poorest(arms, pace, 0.0 if compact else settings.dead_share):
                return

    def _rewrite_poorest(self, arms: SearchArms, pace: UpkeepPace, share: float) -> bool:
        """The first segment of whose rows a larger share is dead, or whose files are damaged; False: none."""
        for part in arms.segments():
            if isinstance(part, ScannedPart) or _dead_share(part) > share:
                return self._rewrite(arms, [part], "compact", pace)
        return False

    def seal_between(self, arms: SearchArms, pace: UpkeepPace) -> None:
        """Called during a merge of one collection: seals what has become many rows, of any."""
        if arms.unsealed_rows() >= self.seal_rows(arms):
            self._seal(arms, pace)
        now = time.monotonic()
        with self._woken:
            others = [
                each
                for number, each in self._noticed.items()
                if each.rows.number != arms.rows.number and self._resting_until.get(number, 0) <= now
            ]
            for other in others:
                self._resting_until[other.rows.number] = now + _SECONDS_BETWEEN_LOOKS
                self._busy_with.add(other.rows.number)
        for other in others:
            self._seal_other(other)

    def _seal_other(self, arms: SearchArms) -> None:
        number = arms.rows.number
        try:
            if not self.is_dropped(arms) and arms.unsealed_rows() >= self.seal_rows(arms):
                self._seal(arms, UpkeepPace(self, arms, None, None, is_sealing=True))
                self._failures.pop(number, None)
        except (Cancelled, CollectionNotFound):
            pass  # what is merged meanwhile hears of a close by itself, and is another's when this is dropped
        except Exception as error:
            self._rest_after(arms, error)
        finally:
            with self._woken:
                self._busy_with.discard(number)
                self._woken.notify_all()

    def _seal(self, arms: SearchArms, pace: UpkeepPace) -> bool:
        part = arms.freeze()
        if part is None:
            return False
        reached("seal: rows chosen")
        covers = int(part.image_numbers[0]), int(part.image_numbers[-1])
        number = arms.take_segment_number()
        row = write_segment(
            arms.files, number, covers, [part], arms.records, arms.wish(), pace.sealing(), "seal"
        )
        self._publish(arms, number, lambda: arms.exchange([], row, frozen=True))
        reached("seal: published")
        return True

    def _rewrite(
        self, arms: SearchArms, parts: Sequence[IndexedPart], purpose: Purpose, pace: UpkeepPace
    ) -> bool:
        if purpose == "merge":
            reached("merge: rows chosen")
        covers = parts[0].row.first, parts[-1].row.last
        number = arms.take_segment_number()
        row = write_segment(arms.files, number, covers, parts, arms.records, arms.wish(), pace, purpose)
        removed = [part.row.number for part in parts]
        self._publish(arms, number, lambda: arms.exchange(removed, row, frozen=False))
        reached(f"{purpose}: published")
        arms.files.remove(removed)
        reached(f"{purpose}: old files removed")
        return True

    def _publish(self, arms: SearchArms, number: int, exchange: Callable[[], None]) -> None:
        try:
            exchange()
        except BaseException:
            arms.files.remove([number])
            raise


def _dead_share(part: IndexedPart) -> float:
    """Of the entity rows in a segment's files, 0 to 1."""
    return 1 - part.live_row_count / max(1, part.row.entities)
