"""LMDB's file read page by page, without LMDB: every bound is checked before it is used.

LMDB trusts its file. A flipped bit in a page makes it read elsewhere, which kills the process or hands out
rows that were deleted long ago. This walk finds such damage beforehand: each page must say its own number and
kind, its nodes lie inside it, keys ascend within the bounds that the pages above set, counts agree with those
noted, and each page is used once: by one tree, or as free. So a page number that is wrong shows, whatever it
leads to: that page is used twice, or free as well.

The layout is LMDB 0.9's (lmdb.h, mdb.c: MDB_meta, MDB_db, MDB_page, MDB_node), little endian, 64 bits.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

MAGIC = 0xBEEFC0DE
VERSION = 1
META_PAGES = 2
SMALLEST_PAGE, LARGEST_PAGE = 512, 65_536
NO_PAGE = (1 << 64) - 1
_BRANCH, _LEAF, _OVERFLOW, _META = 1, 2, 4, 8
_BIG, _SUB = 1, 2
_INTEGER_KEYS = 8
_KIND_OF_TREE = 0x7F
"""Of a tree's flags; LMDB keeps some of how the file was opened beside those of the free pages."""
_HEADER_BYTES = 16
_MOST_LEVELS = 32
_FREES_FROM = 3
"""Commits from this one on free pages: the first ones of a catalog find no tree to change."""

_PAGE = struct.Struct("<QHHHH")  # number, padding, kind, end of the node table, start of the nodes
_OVERFLOW_PAGE = struct.Struct("<QHHI")
_NODE = struct.Struct("<HHHH")  # low and high half of a size or page number, flags, bytes of the key
_TREE = struct.Struct("<IHHQQQQQ")
_META_HEAD = struct.Struct("<IIQQ")  # magic, version, address, bytes of the map
_META_TAIL = struct.Struct("<QQ")  # last page, transaction
META_BYTES = _META_HEAD.size + 2 * _TREE.size + _META_TAIL.size
_NUMBER = struct.Struct("<Q")

Report = Callable[[str], None]
"""Is told each fault, in words."""


class Tree(NamedTuple):
    """A sub-database: how many pages and entries it should have, and its root."""

    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int

    @staticmethod
    def read(data: memoryview, at: int) -> Tree:
        _, *values = _TREE.unpack_from(data, at)
        return Tree(*values)


def hidden_commit(data: memoryview) -> str:
    """What shows that one of both meta pages is not of the commit that it says, or nothing.

    A flipped bit can make of transaction 6 a 4, beside a 5 that then counts, or of 4 a 6. But each commit
    notes under its own number the pages that it freed. Raises PageError.
    """
    older, current = sorted(both_metas(data), key=lambda meta: meta.transaction)
    # Pages of the older state may be gone by now; but if any are there, no later commit has noted any.
    for meta, due in (
        (older, 0),
        (current, current.transaction if current.transaction >= _FREES_FROM else 0),
    ):
        freed = CatalogPages(data, meta, lambda fault: None).newest_freed()
        if not due <= freed <= meta.transaction:
            return (
                f"meta page {meta.page} says that it is of transaction {meta.transaction}, but the last one "
                f"that freed pages in it is {freed}: a commit is hidden"
            )
    return ""


@dataclass(frozen=True, slots=True)
class Meta:
    """One of the two pages that begin the file; commits take them in turn, the later one counts."""

    page: int
    page_size: int
    free: Tree
    main: Tree
    last_page: int
    transaction: int


class PageError(Exception):
    """What is wrong, with the page's number."""


def read_meta(data: memoryview, page: int, page_size: int) -> Meta:
    """Raises PageError unless it is a meta page of this place and page size."""
    start = page * page_size
    if len(data) < start + _HEADER_BYTES + META_BYTES:
        raise PageError(f"the file ends before meta page {page}")
    number, _, kind, _, _ = _PAGE.unpack_from(data, start)
    magic, version, _, _ = _META_HEAD.unpack_from(data, start + _HEADER_BYTES)
    if (number, kind, magic, version) != (page, _META, MAGIC, VERSION):
        raise PageError(f"page {page} is no meta page")
    at = start + _HEADER_BYTES + _META_HEAD.size
    stored_size = struct.unpack_from("<I", data, at)[0]
    free, main = Tree.read(data, at), Tree.read(data, at + _TREE.size)
    last_page, transaction = _META_TAIL.unpack_from(data, at + 2 * _TREE.size)
    if stored_size != page_size or free.flags & _KIND_OF_TREE != _INTEGER_KEYS or main.flags != 0:
        raise PageError(f"meta page {page} names another page size or kind of tree")
    if last_page < META_PAGES - 1:
        raise PageError(f"meta page {page} says that the file ends before its trees")
    return Meta(page, page_size, free, main, last_page, transaction)


def page_size_of(data: memoryview) -> int:
    """What the first meta page says, or where a second one is found. Raises PageError."""
    at = _HEADER_BYTES + _META_HEAD.size
    sizes: list[int] = [struct.unpack_from("<I", data, at)[0]] if len(data) > at + 4 else []
    size = SMALLEST_PAGE
    while size <= LARGEST_PAGE:
        sizes.append(size)
        size *= 2
    for size in sizes:
        if SMALLEST_PAGE <= size <= LARGEST_PAGE and size & (size - 1) == 0:
            try:
                read_meta(data, 1, size)
            except PageError:
                continue
            return size
    for size in sizes[:1]:
        if SMALLEST_PAGE <= size <= LARGEST_PAGE and size & (size - 1) == 0:
            read_meta(data, 0, size)
            return size
    raise PageError("no meta page can be read")


def both_metas(data: memoryview) -> tuple[Meta, Meta]:
    """Raises PageError when one of them is damaged, or they are not those of two commits in a row: the
    later one is what counts, and an older one that took its place would hide a commit."""
    size = page_size_of(data)
    first, second = read_meta(data, 0, size), read_meta(data, 1, size)
    fresh = first.transaction == second.transaction == 0
    neighbours = abs(first.transaction - second.transaction) == 1 or {
        first.transaction,
        second.transaction,
    } == {0, 1}
    in_place = first.transaction % 2 == 0 and (second.transaction % 2 == 1 or second.transaction == 0)
    if not fresh and not (neighbours and in_place):
        raise PageError(
            f"the meta pages are of transactions {first.transaction} and {second.transaction}, "
            "which no two commits in a row have: a commit may be hidden"
        )
    return first, second


def current_meta(data: memoryview) -> Meta:
    """The later one of both. Raises PageError."""
    first, second = both_metas(data)
    return first if first.transaction > second.transaction else second


class CatalogPages:
    """The pages of one transaction's state. `report` is told each fault; a part that cannot be read is left
    out, and the rest is walked on."""

    def __init__(self, data: memoryview, meta: Meta, report: Report) -> None:
        self._data = data
        self._meta = meta
        self._size = meta.page_size
        self._pages = meta.last_page + 1
        self._report = report
        if self._pages * self._size > len(data):
            # LMDB leaves pages out of the file that were free at the end of a commit.
            self._on_disk = len(data) // self._size
        else:
            self._on_disk = self._pages
        self._owner = bytearray(self._pages)
        for page in range(META_PAGES):
            self._owner[page] = 1

    def sub_databases(self) -> dict[str, Tree]:
        """Names and trees, of all whose entry can be read."""
        found = {}
        for key, value, flags in self._nodes("the list of sub-databases", self._meta.main, _SUB):
            if flags != _SUB or len(value) != _TREE.size:
                self._report(f"the list of sub-databases has an entry {key!r} that is none")
                continue
            found[key.decode("utf-8", "replace")] = Tree.read(value, 0)
        return found

    def rows(self, name: str, tree: Tree) -> Iterator[tuple[bytes, memoryview]]:
        """Keys and values of a sub-database in their order; the values are views of the file."""
        if tree.flags:
            self._report(f"'{name}' has flags {tree.flags}, which none of ours has")
            return
        for key, value, _ in self._nodes(f"'{name}'", tree, _BIG):
            yield key, value

    def check_free_pages(self, report: Report | None = None) -> None:
        """Every page that the trees do not use must be free, once. Called when all trees were walked.

        report: is told what is wrong with the list of free pages, which writing needs and reading does not.
        """
        self._report = report or self._report
        free = []
        for key, value, _ in self._nodes("the list of free pages", self._meta.free, _BIG):
            if len(key) != _NUMBER.size or len(value) < _NUMBER.size or len(value) % _NUMBER.size:
                self._report("the list of free pages has an entry of a wrong size")
                continue
            transaction = _NUMBER.unpack(key)[0]
            if transaction > self._meta.transaction:
                self._report(
                    f"pages were freed by transaction {transaction}, but the last one is "
                    f"{self._meta.transaction}: a commit is hidden"
                )
            count = _NUMBER.unpack_from(value)[0]
            numbers = memoryview(bytes(value)).cast("Q")[1:]
            if count > len(numbers):
                self._report("the list of free pages ends before its own count")
                continue
            free += numbers[:count].tolist()
        for page in free:
            if not META_PAGES <= page < self._pages:
                self._report(f"page {page} is called free, but there is none")
            elif self._owner[page]:
                self._report(f"page {page} is in use and free, or free twice")
            else:
                self._owner[page] = 2

    def newest_freed(self) -> int:
        """The last transaction that freed pages, 0 when none did."""
        keys = (key for key, _, _ in self._nodes("the list of free pages", self._meta.free, _BIG))
        return max((_NUMBER.unpack(key)[0] for key in keys if len(key) == _NUMBER.size), default=0)

    def lost_pages(self) -> int:
        """Pages that are neither used nor free: wasted, or hidden by a damaged page number."""
        return self._owner.count(0)

    def last_page(self) -> int:
        return self._pages - 1

    # the walk

    def _nodes(self, name: str, tree: Tree, allowed_flag: int) -> Iterator[tuple[bytes, memoryview, int]]:
        """Depth first, in the order of keys. allowed_flag: of leaf nodes, besides none."""
        if tree.root == NO_PAGE:
            if tree.entries or tree.depth:
                self._report(f"{name} has no pages, but {tree.entries} entries are noted")
            return
        data, size = self._data, self._size
        by_number = tree.flags & _INTEGER_KEYS
        counts = [0, 0, 0]  # branch, leaf and overflow pages
        entries = 0
        faults = 0
        last: bytes | int | None = None
        stack: list[tuple[int, int, bytes | None, bytes | None]] = [(tree.root, 1, None, None)]
        if tree.depth > _MOST_LEVELS:
            self._report(f"{name} is said to have {tree.depth} levels")
            return
        while stack:
            page, level, low, high = stack.pop()
            try:
                kind = _LEAF if level == tree.depth else _BRANCH
                start, places = self._open_page(page, kind)
                nodes = [self._node(start, place) for place in places]
            except PageError as error:
                self._report(f"{name}: {error}")
                faults += 1
                continue
            if kind == _BRANCH:
                counts[0] += 1
                children = self._children(nodes, low, high)
                if not nodes or (children is None and not by_number):
                    self._report(f"{name}: page {page} leads to keys out of order")
                    faults += 1
                if children is None:
                    children = [(number, None, None) for number, _, _ in self._as_branch(nodes)]
                stack += [(number, level + 1, *bounds) for number, *bounds in reversed(children)]  # type: ignore[misc]
                continue
            counts[1] += 1
            for node_start, flags, key_bytes, value_bytes in nodes:
                key_start = node_start + _NODE.size
                key = bytes(data[key_start : key_start + key_bytes])
                order: bytes | int = int.from_bytes(key, "little") if by_number else key
                if (last is not None and order <= last) or (  # type: ignore[operator]
                    not by_number and ((low is not None and key < low) or (high is not None and key >= high))
                ):
                    self._report(f"{name}: page {page} has keys out of order")
                    faults += 1
                last = order
                entries += 1
                at = key_start + key_bytes
                if flags == _BIG and allowed_flag == _BIG:
                    try:
                        value, pages = self._overflow(at, value_bytes)
                    except PageError as error:
                        self._report(f"{name}, key {key.hex()}: {error}")
                        faults += 1
                        continue
                    counts[2] += pages
                elif flags in (0, allowed_flag):
                    value = data[at : at + value_bytes]
                    if at + value_bytes > start + size:
                        self._report(f"{name}: a value leaves page {page}")
                        faults += 1
                        continue
                else:
                    self._report(f"{name}: page {page} has an entry of an unknown kind")
                    faults += 1
                    continue
                yield key, value, flags
        noted = (tree.branch_pages, tree.leaf_pages, tree.overflow_pages)
        if not faults and (tuple(counts) != noted or entries != tree.entries):
            self._report(
                f"{name} has {entries} entries in {'/'.join(map(str, counts))} pages; "
                f"noted are {tree.entries} in {'/'.join(map(str, noted))}"
            )

    def _open_page(self, page: int, kind: int) -> tuple[int, tuple[int, ...]]:
        """Where a page starts, and its node table. Raises PageError."""
        self._take(page, 1)
        start = page * self._size
        number, _, stored_kind, lower, upper = _PAGE.unpack_from(self._data, start)
        if number != page or stored_kind != kind:
            raise PageError(f"page {page} says to be page {number} of kind {stored_kind}, not {kind}")
        if not _HEADER_BYTES <= lower <= upper <= self._size or lower % 2:
            raise PageError(f"page {page} has a node table of impossible size")
        count = (lower - _HEADER_BYTES) // 2
        places = struct.unpack_from(f"<{count}H", self._data, start + _HEADER_BYTES)
        if count and (min(places) < upper or max(places) > self._size - _NODE.size):
            raise PageError(f"page {page} has a node outside its bounds")
        return start, places

    def _node(self, start: int, place: int) -> tuple[int, int, int, int]:
        """(where it starts, flags, bytes of the key, size of the value or low bits of a page's number)."""
        low, high, flags, key_bytes = _NODE.unpack_from(self._data, start + place)
        if place + _NODE.size + key_bytes > self._size:
            raise PageError(f"a key leaves page {start // self._size}")
        return start + place, flags, key_bytes, low | high << 16

    def _as_branch(self, nodes: list[tuple[int, int, int, int]]) -> Iterator[tuple[int, int, int]]:
        """(page number, where the key starts, its bytes): in a branch, flags are bits of the number."""
        for start, flags, key_bytes, low in nodes:
            yield low | flags << 32, start + _NODE.size, key_bytes

    def _children(
        self, nodes: list[tuple[int, int, int, int]], low: bytes | None, high: bytes | None
    ) -> list[tuple[int, bytes | None, bytes | None]] | None:
        """(page number, lowest key, first key too high) of each; None when the keys do not ascend."""
        numbers = []
        bounds: list[bytes | None] = []
        for place, (number, at, key_bytes) in enumerate(self._as_branch(nodes)):
            numbers.append(number)
            # The first key of a branch is not looked at by LMDB: it stands for everything lower.
            bounds.append(low if place == 0 else bytes(self._data[at : at + key_bytes]))
        bounds.append(high)
        for before, after in itertools.pairwise(bounds):
            if before is not None and after is not None and before >= after:
                return None
        return [(number, bounds[place], bounds[place + 1]) for place, number in enumerate(numbers)]

    def _overflow(self, at: int, value_bytes: int) -> tuple[memoryview, int]:
        """The value of a node that only names its first page, and how many pages it has."""
        if at + _NUMBER.size > len(self._data):
            raise PageError("an entry ends outside the file")
        page = _NUMBER.unpack_from(self._data, at)[0]
        needed = (_HEADER_BYTES - 1 + value_bytes) // self._size + 1
        self._refuse_outside(page, needed)
        start = page * self._size
        number, _, kind, pages = _OVERFLOW_PAGE.unpack_from(self._data, start)
        # More pages than the value needs: it was longer once in its transaction.
        if number != page or kind != _OVERFLOW or pages < needed:
            raise PageError(f"page {page} is not the start of a value of {value_bytes} bytes")
        self._take(page, pages)
        start += _HEADER_BYTES
        return self._data[start : start + value_bytes], pages

    def _take(self, page: int, pages: int) -> None:
        self._refuse_outside(page, pages)
        if any(self._owner[page : page + pages]):
            which = f"page {page}" if pages == 1 else f"one of the pages {page} to {page + pages - 1}"
            raise PageError(f"{which} is used twice")
        self._owner[page : page + pages] = b"\x01" * pages

    def _refuse_outside(self, page: int, pages: int) -> None:
        if page < META_PAGES or page + pages > self._on_disk:
            raise PageError(f"page {page} ({pages} in a row) lies outside the file")
