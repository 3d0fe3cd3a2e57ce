"""Distinct texts in order, in one buffer: found by bisection, decoded only when they are asked for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from regionsearch.filters.timestamps import instant_of

NO_INSTANT = -(1 << 63)


class SortedTexts:
    """k texts in UTF-8, ascending, which is the order of their code points too.

    bytes: all of them side by side. offsets: (k + 1,) uint32, where each begins in it. instants: (k,)
    int64, microseconds since 1970, NO_INSTANT for texts that are no times; made when first asked for
    unless they are given.
    """

    def __init__(
        self, joined: bytes, offsets: NDArray[np.uint32], instants: NDArray[np.int64] | None = None
    ) -> None:
        self.joined = joined
        self.offsets = offsets
        # Whose elements are Python's integers: bisection reads them one by one.
        self._bounds = np.ascontiguousarray(offsets, np.uint32).data
        if instants is not None:
            self.instants = instants

    @staticmethod
    def of(texts: Iterable[bytes]) -> SortedTexts:
        """Of texts in any order, also repeated ones."""
        ordered = sorted(set(texts))
        ends = np.cumsum([len(text) for text in ordered], dtype=np.uint32)
        return SortedTexts(b"".join(ordered), np.concatenate([np.zeros(1, np.uint32), ends]))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, place: int) -> bytes:
        return self.joined[self._bounds[place] : self._bounds[place + 1]]

    @cached_property
    def instants(self) -> NDArray[np.int64]:
        return np.array([_instant(text) for text in self.all()], np.int64)

    def with_added(self, texts: Iterable[bytes]) -> tuple[SortedTexts, NDArray[np.int64]]:
        """These and others, and where each of these went, (k,) int64. Costs what is added, and a copy."""
        places = {text: bisect_left(self, text) for text in sorted(set(texts))}
        added = [text for text, at in places.items() if at == len(self) or self[at] != text]
        if not added:
            return self, np.arange(len(self), dtype=np.int64)
        before = np.array([places[text] for text in added], np.int64)
        cuts = [0, *self.offsets[before].tolist(), len(self.joined)]
        pieces = [self.joined[start:end] for start, end in pairwise(cuts)]
        joined = b"".join(part for pair in zip(pieces, [*added, b""], strict=True) for part in pair)
        lengths = np.insert(np.diff(self.offsets), before, [len(text) for text in added])
        offsets = np.concatenate([np.zeros(1, np.uint32), np.cumsum(lengths, dtype=np.uint32)])
        instants = None
        if "instants" in self.__dict__:  # most of them are known then
            instants = np.insert(self.instants, before, [_instant(text) for text in added])
        went = np.arange(len(self), dtype=np.int64)
        went += np.searchsorted(before, went, side="right")
        return SortedTexts(joined, offsets, instants), went

    def place(self, text: bytes) -> int:
        """Of a text that is there."""
        return bisect_left(self, text)

    def all(self) -> list[bytes]:
        offsets = self.offsets.tolist()
        return [self.joined[start:end] for start, end in pairwise(offsets)]

    def places(self, sign: str, text: str) -> tuple[int, int]:
        """The half-open range of places of those that are `sign` text (= < <= > >=)."""
        coded = text.encode()
        if sign == "=":
            at = bisect_left(self, coded)
            return at, at + (at < len(self) and self[at] == coded)
        if sign == "<":
            return 0, bisect_left(self, coded)
        if sign == "<=":
            return 0, bisect_right(self, coded)
        if sign == ">":
            return bisect_right(self, coded), len(self)
        return bisect_left(self, coded), len(self)

    def places_with_prefix(self, prefix: str) -> tuple[int, int]:
        """The half-open range of places of those that begin so."""
        coded = prefix.encode()
        if not coded:
            return 0, len(self)
        # UTF-8 has no byte 255, so the last one can always be the next higher.
        after = coded[:-1] + bytes([coded[-1] + 1])
        return bisect_left(self, coded), bisect_left(self, after)


def _instant(text: bytes) -> int:
    found = instant_of(str(text, "utf-8"))
    return NO_INSTANT if found is None else found
