"""Batches of similar size within a budget, and smaller ones when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from regionsearch.errors import OutOfMemory

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger("regionsearch.models")


def batches_of_equal_size(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Places of items, grouped so that a batch holds one size only and `budget` tokens at most (but
    always one item). Nothing is padded, so that an item's vector does not depend on its company.

    Batches come by size, items within them in their order.
    """
    by_size: dict[int, list[int]] = {}
    for place, size in enumerate(sizes):
        by_size.setdefault(size, []).append(place)
    batches: list[list[int]] = []
    for size in sorted(by_size):
        places = by_size[size]
        most = max(1, budget // max(1, size))
        batches.extend(places[start : start + most] for start in range(0, len(places), most))
    return batches


def run_halving(items: Sequence[Item], run: Callable[[Sequence[Item]], Sequence[Result]]) -> list[Result]:
    """`run` over the items, in halves of halves when the device's memory does not hold them together.

    `run` returns one result an item; what it calls may be halving by itself. Raises OutOfMemory when a
    single item does not fit.
    """
    import torch

    try:
        return list(run(items))
    except (torch.OutOfMemoryError, OutOfMemory) as error:
        if len(items) < 2:
            raise OutOfMemory("the memory of the device does not hold a single item of a batch") from error
    # Outside the except block: the exception held the tensors of the failed pass.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    _log.warning("event=out_of_memory items=%d retried_as=%d", len(items), middle)
    return run_halving(items[:middle], run) + run_halving(items[middle:], run)
