"""The next batch is read and prepared while the last one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

Batch = TypeVar("Batch")


class BatchesAhead(Generic[Batch]):
    """(step, batch) for the steps from `first` to `steps` - 1, in order; one batch ahead, no more.

    read: makes the batch of a step; it is given a `map` over the items of the batch, which runs in
    `readers` threads. An error in it is raised where its batch is asked for.
    """

    def __init__(
        self, read: Callable[[int, Callable[..., Any]], Batch], steps: int, first: int, readers: int
    ) -> None:
        self._read = read
        self._steps = range(first, steps)
        # The thread that makes a batch waits for those that read its items: they cannot be the same.
        self._makers = ThreadPoolExecutor(1, "batch")
        self._readers = ThreadPoolExecutor(readers, "picture")

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        coming: Future[Batch] | None = None
        for step in self._steps:
            now = coming or self._begin(step)
            batch = now.result()
            coming = self._begin(step + 1) if step + 1 in self._steps else None
            yield step, batch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for threads in (self._makers, self._readers):
            threads.shutdown(wait=True, cancel_futures=True)

    def _begin(self, step: int) -> Future[Batch]:
        return self._makers.submit(self._read, step, self._readers.map)
