"""The values that one field has in a run of images, as arrays, and which images a condition holds of."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.filters.expression import (
    Boolean,
    Comparison,
    Condition,
    Instant,
    Membership,
    Prefix,
    Presence,
    Text,
    Value,
)
from regionsearch.filters.meaning import ORDER
from regionsearch.filters.number_ranges import float_range, whole_range
from regionsearch.filters.sorted_texts import NO_INSTANT, SortedTexts

BOOLEAN, WHOLE, FLOAT, BIG, TEXT, OBJECT, KEY = range(7)
"""Kinds of values. WHOLE: an integer of 64 bits; BIG: one beyond them. KEY: a key of an object, which is
no value of the field, but what `:` asks for."""
MIXED = 255
_BISECTIONS = 16
"""Texts of a table that are looked at one after the other in the time that one is found by bisection."""
_INT64 = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True, eq=False)
class ValueColumn:
    """Of images 0 to span − 1, the v values of one field, by image; each value of an image once.

    owners: (v,) integers, ascending, the image of each. kinds: (v,) uint8. bits: (v,) int64: 0 or 1, the
    integer, the bits of the double, or the place of the text, key, or the digits of a BIG one in the table
    of texts of its run. tables: of each run of values. starts: (runs + 1,) int64, where each run begins
    among the values, and v.
    """

    span: int
    owners: NDArray[Any]
    kinds: NDArray[np.uint8]
    bits: NDArray[np.int64]
    tables: tuple[SortedTexts, ...]
    starts: NDArray[np.int64]

    @staticmethod
    def of_run(
        span: int,
        owners: NDArray[np.uint16],
        kinds: NDArray[np.uint8],
        bits: NDArray[np.int64],
        texts: SortedTexts,
    ) -> ValueColumn:
        """Of one run: span is 65,536 at most."""
        return ValueColumn(span, owners, kinds, bits, (texts,), np.array([0, len(bits)], np.int64))

    @staticmethod
    def empty(span: int) -> ValueColumn:
        return ValueColumn.of_run(
            span, np.empty(0, np.uint16), np.empty(0, np.uint8), np.empty(0, np.int64), SortedTexts.of(())
        )

    @staticmethod
    def of(span: int, values: Mapping[int, Iterable[Any]]) -> ValueColumn:
        """values: by image, as `payload_values.values_at` finds them."""
        return ValueColumn.empty(span).changed((), values)

    @staticmethod
    def joined(columns: Sequence[ValueColumn]) -> ValueColumn:
        """One after the other, at least one, each with its own tables: conditions are then answered for all
        in a few array operations."""
        if len(columns) == 1:
            return columns[0]
        firsts = np.cumsum([0, *(column.span for column in columns)], dtype=np.int64)
        counts = [len(column.bits) for column in columns]
        owners = np.concatenate([column.owners.astype(np.int64) for column in columns])
        owners += np.repeat(firsts[:-1], counts)
        runs = np.concatenate([np.diff(column.starts) for column in columns])
        return ValueColumn(
            int(firsts[-1]),
            owners,
            np.concatenate([column.kinds for column in columns]),
            np.concatenate([column.bits for column in columns]),
            tuple(table for column in columns for table in column.tables),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(runs)]),
        )

    @property
    def texts(self) -> SortedTexts:
        """Of a column of one run."""
        (texts,) = self.tables
        return texts

    def changed(self, without: Iterable[int], added: Mapping[int, Iterable[Any]]) -> ValueColumn:
        """The same, of one run, with the values of some images gone, and those of others in their stead."""
        dropped = np.zeros(self.span, bool)
        dropped[[*without, *added]] = True
        kept = ~dropped[self.owners]
        owners: list[int] = []
        kinds: list[int] = []
        bits: list[int | bytes] = []
        for owner, values in added.items():
            coded = [pair for value in values for pair in _coded(value)]
            if len(coded) > 1:
                coded = list(dict.fromkeys(coded))
            owners += [owner] * len(coded)
            for kind, each in coded:
                kinds.append(kind)
                bits.append(each)
        fresh = {each for each in bits if isinstance(each, bytes)}
        if kept.all():
            old_kinds, old_bits, old_owners = self.kinds, self.bits, self.owners
            texts, went = self.texts.with_added(fresh)
        else:
            old_kinds, old_bits, old_owners = self.kinds[kept], self.bits[kept], self.owners[kept]
            texts, went = self._texts_in_use(old_kinds, old_bits, fresh)
        if texts is not self.texts:
            has_text = _has_text(old_kinds)
            old_bits = old_bits.copy()
            old_bits[has_text] = went[old_bits[has_text]]
        place = {text: texts.place(text) for text in fresh}
        new_bits = [place[each] if isinstance(each, bytes) else each for each in bits]
        all_owners = np.concatenate([old_owners, np.array(owners, np.uint16)])
        order = np.argsort(all_owners, kind="stable")
        return ValueColumn.of_run(
            self.span,
            all_owners[order],
            np.concatenate([old_kinds, np.array(kinds, np.uint8)])[order],
            np.concatenate([old_bits, np.array(new_bits, np.int64)])[order],
            texts,
        )

    def _texts_in_use(
        self, kinds: NDArray[np.uint8], bits: NDArray[np.int64], fresh: Iterable[bytes]
    ) -> tuple[SortedTexts, NDArray[np.int64]]:
        """The texts of some of these values and fresh ones, and where each text went."""
        in_use = np.zeros(len(self.texts), bool)
        in_use[bits[_has_text(kinds)]] = True
        old = self.texts.all()
        texts = SortedTexts.of([*(old[at] for at in np.flatnonzero(in_use).tolist()), *fresh])
        code = {text: at for at, text in enumerate(texts.all())}
        return texts, np.array([code.get(text, 0) for text in old], np.int64)

    # what conditions ask

    def truth(self, condition: Condition) -> NDArray[np.bool_]:
        """(span,) bool: which images the condition holds of, as `meaning.holds` defines it, the caller's."""
        match condition:
            case Presence():
                return self._present.copy()
            case Membership(_, values):
                return self._owners_of(self._among(values))
            case Comparison(_, "!=", value):
                return self._present & ~self._owners_of(self._equal(value))
            case Comparison(_, "=", value):
                return self._owners_of(self._equal(value))
            case Comparison(_, ":", value):
                return self._owners_of(self._equal(value) | self._named_keys(value))
            case Comparison(_, sign, value):
                return self._owners_of(self._compared(sign, value))

    @cached_property
    def kind(self) -> int:
        """Of all values, or MIXED."""
        if not len(self.kinds):
            return MIXED
        first = int(self.kinds[0])
        return first if (self.kinds == first).all() else MIXED

    @cached_property
    def _present(self) -> NDArray[np.bool_]:
        return self._owners_of(self.kinds != KEY)

    @cached_property
    def bytes(self) -> int:
        """Of memory, roughly."""
        texts = sum(len(table.joined) + 4 * len(table) for table in self.tables)
        return 11 * len(self.bits) + texts + 512

    def _owners_of(self, found: NDArray[np.bool_]) -> NDArray[np.bool_]:
        truth = np.zeros(self.span, bool)
        truth[self.owners[found]] = True
        return truth

    def _nothing(self) -> NDArray[np.bool_]:
        return np.zeros(len(self.bits), bool)

    def _equal(self, value: Value) -> NDArray[np.bool_]:
        """(v,) bool."""
        if isinstance(value, Boolean):
            return self._of_kind(self.bits == int(value.value), BOOLEAN)
        if isinstance(value, Prefix):
            return self._in_tables(lambda texts: texts.places_with_prefix(value.text), TEXT)
        return self._compared("=", value)

    def _among(self, wanted: Sequence[Value]) -> NDArray[np.bool_]:
        """(v,) bool: values that equal one of these; as many as an IN has are sought at once."""
        wholes, floats, texts, numbers = set[int](), set[float](), set[str](), set[int | float]()
        found = self._nothing()
        for value in wanted:
            if isinstance(value, Text) and value.instant is None:
                texts.add(value.text)
            elif isinstance(value, int | float):
                whole, double = whole_range("=", value), float_range("=", value)
                wholes.update([whole[0]] if whole is not None else [])
                floats.update([double[0]] if double is not None else [])
                numbers.add(value)
            else:
                found |= self._equal(value)
        if wholes and self._has(WHOLE):
            found |= self._of_kind(np.isin(self.bits, np.array(sorted(wholes), np.int64)), WHOLE)
        if floats and self._has(FLOAT):
            doubles = np.isin(self.bits.view(np.float64), np.array(sorted(floats), np.float64))
            found |= self._of_kind(doubles, FLOAT)
        if numbers and self._has(BIG):
            places, bigs = self._bigs
            found[places] = [big in numbers for big in bigs]
        if texts and self._has(TEXT):
            coded = {text.encode() for text in texts}
            held = [_held(table, coded) for table in self.tables]
            found |= self._of_texts(np.concatenate([*held, np.zeros(1, bool)]))
        return found

    def _has(self, kind: int) -> bool:
        """Whether values may be of a kind."""
        return self.kind in (kind, MIXED)

    def _of_texts(self, held: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(v,) bool: values that are texts held. held: (texts of all tables + 1,) bool, the last False."""
        if not self._has(TEXT) or not held.any():
            return self._nothing()
        places = self.bits + np.repeat(self._first_texts, np.diff(self.starts))
        if self.kind == MIXED:
            places[self.kinds != TEXT] = len(held) - 1
        found: NDArray[np.bool_] = held[places]
        return found

    @cached_property
    def _first_texts(self) -> NDArray[np.int64]:
        """Where each table's texts begin among those of all."""
        return np.cumsum([0, *(len(table) for table in self.tables)], dtype=np.int64)[:-1]

    def _named_keys(self, value: Value) -> NDArray[np.bool_]:
        if isinstance(value, Text):
            return self._in_tables(lambda texts: texts.places("=", value.text), KEY)
        if isinstance(value, Prefix):
            return self._in_tables(lambda texts: texts.places_with_prefix(value.text), KEY)
        return self._nothing()

    def _compared(self, sign: str, value: Value) -> NDArray[np.bool_]:
        """(v,) bool: values that are `sign` value (= < <= > >=)."""
        if isinstance(value, Prefix | Boolean):
            raise ValueError(f"{value} has no order")
        if isinstance(value, int | float):
            return self._numbers(sign, value)
        if isinstance(value, Instant):
            return self._instants(sign, value.microseconds)
        if value.instant is not None:
            return self._instants(sign, value.instant)
        return self._in_tables(lambda texts: texts.places(sign, value.text), TEXT)

    def _in_tables(self, places: Callable[[SortedTexts], tuple[int, int]], kind: int) -> NDArray[np.bool_]:
        """(v,) bool: values of a kind whose text is at the half-open range of places that its table gives."""
        if not self._has(kind):
            return self._nothing()
        ranges = np.array([places(table) for table in self.tables], np.int64)
        if (ranges[:, 0] >= ranges[:, 1]).all():
            return self._nothing()
        counts = np.diff(self.starts)
        first, end = np.repeat(ranges[:, 0], counts), np.repeat(ranges[:, 1], counts)
        return self._of_kind((self.bits >= first) & (self.bits < end), kind)

    def _of_kind(self, found: NDArray[np.bool_], kind: int) -> NDArray[np.bool_]:
        """Those found that are of a kind; `found` is changed."""
        if self.kind == MIXED:
            found &= self.kinds == kind
        elif self.kind != kind:
            found[:] = False
        return found

    def _instants(self, sign: str, microseconds: int) -> NDArray[np.bool_]:
        wanted = np.int64(microseconds)
        instants = self._all_instants
        holds = instants == wanted if sign == "=" else ORDER[sign](instants, wanted)
        return self._of_texts(holds & (instants != NO_INSTANT))

    @cached_property
    def _all_instants(self) -> NDArray[np.int64]:
        """Of the texts of all tables, and a last one that is none."""
        return np.concatenate([*(table.instants for table in self.tables), np.array([NO_INSTANT], np.int64)])

    def _numbers(self, sign: str, number: int | float) -> NDArray[np.bool_]:
        found = self._nothing()
        kinds = {self.kind} if self.kind != MIXED else {WHOLE, FLOAT, BIG}
        wholes = whole_range(sign, number)
        if WHOLE in kinds and wholes is not None:
            found |= self._of_kind(_within(self.bits, *wholes), WHOLE)
        floats = float_range(sign, number)
        if FLOAT in kinds and floats is not None:
            # Bits of other kinds may read as NaN, which is within nothing.
            found |= self._of_kind(_within(self.bits.view(np.float64), *floats), FLOAT)
        if BIG in kinds:
            order: Callable[[Any, Any], Any] = ORDER.get(sign, operator.eq)
            places, bigs = self._bigs
            found[places] = [order(big, number) for big in bigs]
        return found

    @cached_property
    def _bigs(self) -> tuple[NDArray[np.int64], list[int]]:
        """Where integers beyond 64 bits are among the values, and what they are."""
        places = np.flatnonzero(self.kinds == BIG)
        runs = np.searchsorted(self.starts, places, side="right") - 1
        texts = zip(runs.tolist(), self.bits[places].tolist(), strict=True)
        return places, [int(self.tables[run][text]) for run, text in texts]


def _within(values: NDArray[Any], low: float, high: float) -> NDArray[np.bool_]:
    if low == high:
        equal: NDArray[np.bool_] = values == low
        return equal
    within: NDArray[np.bool_] = (values >= low) & (values <= high)
    return within


def _has_text(kinds: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which values' bits are places in the texts."""
    has: NDArray[np.bool_] = (kinds == TEXT) | (kinds == BIG) | (kinds == KEY)
    return has


def _held(table: SortedTexts, wanted: set[bytes]) -> NDArray[np.bool_]:
    """(k,) bool: which texts of the table are wanted."""
    if len(wanted) * _BISECTIONS > len(table):
        return np.array([text in wanted for text in table.all()], bool)
    held = np.zeros(len(table), bool)
    for text in wanted:
        at = table.place(text)
        if at < len(table) and table[at] == text:
            held[at] = True
    return held


def _coded(value: Any) -> list[tuple[int, int | bytes]]:
    """(kind, bits or text) of a value; an object is itself and its keys."""
    if type(value) is str:  # first, as most are
        return [(TEXT, value.encode())]
    if isinstance(value, bool):
        return [(BOOLEAN, int(value))]
    if isinstance(value, int):
        return [(WHOLE, value) if value in _INT64 else (BIG, str(value).encode())]
    if isinstance(value, float):
        return [(FLOAT, int(np.float64(value).view(np.int64)))]
    if isinstance(value, str):
        return [(TEXT, value.encode())]
    if isinstance(value, Mapping):
        return [(OBJECT, 0), *((KEY, key.encode()) for key in value)]
    raise TypeError(f"{type(value).__name__} is no value of a payload")
