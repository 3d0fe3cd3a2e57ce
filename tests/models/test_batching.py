"""Batches of one size within a budget, and smaller ones when memory runs out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.errors import OutOfMemory
from regionsearch.models.batching import batches_of_equal_size, run_halving


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(-1, 30))
def test_every_item_is_in_one_batch_of_its_size_and_batches_are_full(sizes: list[int], budget: int) -> None:
    batches = batches_of_equal_size(sizes, budget)
    assert sorted(place for batch in batches for place in batch) == list(range(len(sizes)))
    by_size: dict[int, list[int]] = {}
    for batch in batches:
        held = {sizes[place] for place in batch}
        assert len(held) == 1
        assert len(batch) == 1 or len(batch) * max(1, *held) <= budget
        assert batch == sorted(batch)
        by_size.setdefault(held.pop(), []).append(len(batch))
    for size, lengths in by_size.items():
        assert set(lengths[:-1]) <= {max(1, budget // max(1, size))}


class Memory:
    """A device that holds `most` items at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: list[int] = []

    def run(self, items: Sequence[int]) -> list[int]:
        self.asked.append(len(items))
        if len(items) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return [item * item for item in items]


@given(st.integers(1, 70), st.integers(1, 80))
def test_what_does_not_fit_together_is_computed_in_halves_and_in_order(count: int, most: int) -> None:
    memory = Memory(most)
    assert run_halving(range(count), memory.run) == [item * item for item in range(count)]
    kept = [size for size in memory.asked if size <= most]
    assert sum(kept) == count
    # Halving stops as soon as a part fits.
    assert count <= most or min(kept) >= most // 2


def test_a_single_item_that_does_not_fit_is_out_of_memory() -> None:
    memory = Memory(0)
    with pytest.raises(OutOfMemory, match="a single item") as caught:
        run_halving([1, 2, 3], memory.run)
    assert memory.asked == [3, 1]
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_what_halves_by_itself_can_be_halved_once_more() -> None:
    inner = Memory(3)

    def prompts_of(images: Sequence[int]) -> list[int]:
        # The inner pass takes all of them as one item: only from outside can there be fewer.
        run_halving([tuple(images)], lambda groups: [inner.run(group) and 0 for group in groups])
        return [image + 1 for image in images]

    assert run_halving(range(8), prompts_of) == list(range(1, 9))
    assert inner.asked == [8, 4, 2, 2, 4, 2, 2]


def test_another_error_is_not_tried_again() -> None:
    asked = []

    def broken(items: Sequence[int]) -> list[int]:
        asked.append(len(items))
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        run_halving([1, 2, 3, 4], broken)
    assert asked == [4]
