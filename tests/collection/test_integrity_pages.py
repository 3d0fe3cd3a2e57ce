"""LMDB's file read without LMDB: the same rows, every page accounted for, no damage overlooked."""

from __future__ import annotations

import contextlib
import itertools
import random
import struct
from pathlib import Path

import lmdb
import pytest

from regionsearch.collection.integrity.pages import (
    CatalogPages,
    PageError,
    both_metas,
    current_meta,
    hidden_commit,
)

PAGE = 4_096
NAMES = (b"first", b"second")


def walked(data: bytes | bytearray) -> tuple[dict[str, dict[bytes, bytes]], list[str], int]:
    """Rows by sub-database, faults, lost pages."""
    faults: list[str] = []
    view = memoryview(data)
    pages = CatalogPages(view, current_meta(view), faults.append)
    rows = {
        name: {key: bytes(value) for key, value in pages.rows(name, tree)}
        for name, tree in pages.sub_databases().items()
    }
    pages.check_free_pages()
    return rows, faults, pages.lost_pages()


def scrambled(folder: Path, seed: int, commits: int = 40) -> dict[str, dict[bytes, bytes]]:
    """A catalog after many random writes; what it holds."""
    chance = random.Random(seed)
    model: dict[str, dict[bytes, bytes]] = {name.decode(): {} for name in NAMES}
    with lmdb.open(str(folder), map_size=1 << 28, max_dbs=3, sync=False) as environment:
        databases = {name.decode(): environment.open_db(name) for name in NAMES}
        for _ in range(commits):
            with environment.begin(write=True) as transaction:
                for _ in range(chance.choice([1, 5, 50, 300])):
                    name = chance.choice(list(model))
                    rows = model[name]
                    if rows and chance.random() < 0.4:
                        key = chance.choice(list(rows)[:50])
                        transaction.delete(key, db=databases[name])
                        del rows[key]
                        continue
                    key = b"%0*d" % (chance.choice([4, 8, 300]), chance.randrange(3_000))
                    rows[key] = chance.randbytes(chance.choice([0, 10, 100, 3_000, 9_000]))
                    transaction.put(key, rows[key], db=databases[name])
                if chance.random() < 0.05:
                    transaction.drop(databases["first"], delete=False)
                    model["first"] = {}
    return model


@pytest.mark.parametrize("seed", range(6))
def test_the_walk_meets_every_row_and_accounts_for_every_page(tmp_path: Path, seed: int) -> None:
    model = scrambled(tmp_path, seed)
    rows, faults, lost = walked((tmp_path / "data.mdb").read_bytes())
    assert faults == []
    assert lost == 0
    assert hidden_commit(read(tmp_path)) == ""
    assert rows == model


def used_pages(data: bytes) -> set[int]:
    view = memoryview(data)
    pages = CatalogPages(view, current_meta(view), lambda fault: None)
    for name, tree in pages.sub_databases().items():
        for _ in pages.rows(name, tree):
            pass
    return {page for page, owner in enumerate(pages._owner) if owner == 1}


def test_every_page_number_in_a_tree_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    """Whatever page it leads to: LMDB would read that as if it were the right one."""
    scrambled(tmp_path, seed=3)
    data = (tmp_path / "data.mdb").read_bytes()
    chance = random.Random(0)
    noticed = 0
    for page in sorted(used_pages(data) - {0, 1}):
        kind = struct.unpack_from("<H", data, page * PAGE + 10)[0]
        if kind != 1:
            continue
        count = (struct.unpack_from("<H", data, page * PAGE + 12)[0] - 16) // 2
        for _ in range(min(count, 5)):
            at = (
                page * PAGE
                + struct.unpack_from("<H", data, page * PAGE + 16 + 2 * chance.randrange(count))[0]
            )
            damaged = bytearray(data)
            struct.pack_into("<H", damaged, at, chance.randrange(2, len(data) // PAGE))
            if damaged != data:
                assert walked(damaged)[1] != []
                noticed += 1
    assert noticed > 10


def test_a_page_in_the_list_of_free_pages_that_is_in_use_is_noticed(tmp_path: Path) -> None:
    scrambled(tmp_path, seed=1)
    data = (tmp_path / "data.mdb").read_bytes()
    view = memoryview(data)
    meta = current_meta(view)
    in_use = max(used_pages(data))
    pages = CatalogPages(view, meta, lambda fault: None)
    _, value, _ = next(iter(pages._nodes("free", meta.free, 1)))
    first = struct.pack("<Q", struct.unpack_from("<Q", value, 8)[0])
    damaged = bytearray(data)
    at = data.index(bytes(value)) + 8
    assert data[at : at + 8] == first
    struct.pack_into("<Q", damaged, at, in_use)
    assert any("in use and free" in fault for fault in walked(damaged)[1])


def test_random_damage_to_pages_in_use_never_breaks_the_walk(tmp_path: Path) -> None:
    scrambled(tmp_path, seed=2, commits=15)
    data = (tmp_path / "data.mdb").read_bytes()
    used = sorted(used_pages(data))
    chance = random.Random(1)
    noticed = 0
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(chance.choice([1, 1, 4])):
            at = chance.choice(used) * PAGE + chance.randrange(64)
            damaged[at] = chance.randrange(256)
        try:
            noticed += walked(damaged)[1] != []
        except PageError:
            noticed += 1
    assert noticed > 25


def test_a_flipped_bit_in_the_number_of_a_commit_is_noticed(tmp_path: Path) -> None:
    """LMDB would go back to the commit before without a word, or take the older one for the newer."""
    with lmdb.open(str(tmp_path), map_size=1 << 20) as environment:
        assert [meta.transaction for meta in both_metas(read(tmp_path))] == [0, 0]
        for number in range(1, 12):
            with environment.begin(write=True) as transaction:
                transaction.put(b"key", b"%d" % number)
            data = read(tmp_path)
            assert current_meta(data).transaction == number
            assert hidden_commit(data) == ""
            if number < 3:
                continue  # a directory of ours has a dozen commits when it is made
            for page, bit in itertools.product((0, 1), range(64)):
                damaged = bytearray(data)
                damaged[page * PAGE + 16 + 24 + 96 + 8 + bit // 8] ^= 1 << bit % 8
                with contextlib.suppress(PageError):
                    assert hidden_commit(memoryview(damaged)) != "", (number, page, bit)


def read(folder: Path) -> memoryview:
    return memoryview((folder / "data.mdb").read_bytes())
