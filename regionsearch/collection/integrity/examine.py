"""The walk over a catalog's pages and rows that finds what is damaged."""

from __future__ import annotations

import contextlib
import mmap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb

from regionsearch.collection.integrity.pages import (
    CatalogPages,
    Meta,
    PageError,
    Tree,
    both_metas,
    current_meta,
    hidden_commit,
)
from regionsearch.collection.integrity.problems import broken_free_pages, broken_pages
from regionsearch.collection.integrity.row_checks import SUB_DATABASES_IN_ORDER, RowChecks

_SECONDS_BETWEEN_SIGNS = 0.25
_ROWS_BETWEEN_LOOKS = 512
_TRIES = 20
_LATER_PARTS = {"aliases", "segments", "fields", "idempotency"}
"""Sub-databases that a catalog of format 1 does not have."""

Say = Callable[[dict[str, Any]], None]


def examine(path: Path, thorough: bool, beside_writer: bool, say: Say) -> dict[str, Any]:
    """What an `Examination` holds, as JSON.

    path: LMDB's file. thorough: see RowChecks. beside_writer: keeps LMDB from using the pages again that are
    read here; without it no process should be writing, and when one does all the same it is looked at again.
    say: is told {"progress": 0 to 1} now and then.
    """
    before = _transactions(path)
    with _held(path) if beside_writer else contextlib.nullcontext(None) as transaction:
        found = _walk(path, transaction, thorough, say)
    if found["problems"] and not beside_writer and _transactions(path) != before:
        # Somebody began to write: what looked like damage may have been pages used again.
        return examine(path, thorough, True, say)
    return found


def _walk(path: Path, transaction: int | None, thorough: bool, say: Say) -> dict[str, Any]:
    checks = RowChecks(thorough=thorough)
    faults: list[str] = []
    free_faults: list[str] = []
    found: dict[str, Any] = {"transaction": None, "pages": 0, "lost_pages": 0, "images": 0, "format": ""}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        data = memoryview(mapped)
        try:
            meta = current_meta(data) if transaction is None else _meta_of(data, transaction)
            hidden = hidden_commit(data) if transaction is None else ""
        except PageError as error:
            faults.append(str(error))
        else:
            found |= {"transaction": meta.transaction, "pages": meta.last_page + 1}
            faults += [hidden] * bool(hidden)
            pages = CatalogPages(data, meta, faults.append)
            _check_all(pages, checks, faults, _SignsOfLife(say, meta.last_page + 1, pages))
            pages.check_free_pages(free_faults.append)
            found["lost_pages"] = pages.lost_pages()
            del pages
        checks.problems += [broken_pages(fault) for fault in faults]
        checks.problems += [broken_free_pages(fault) for fault in free_faults]
        data.release()
    found |= {"images": checks.images(), "format": checks.format}
    found["problems"] = [problem.as_json() for problem in checks.problems]
    return found


def _check_all(pages: CatalogPages, checks: RowChecks, faults: list[str], signs: _SignsOfLife) -> None:
    trees = pages.sub_databases()
    for name in SUB_DATABASES_IN_ORDER:
        tree: Tree | None = trees.pop(name, None)
        if tree is None:
            if name not in _LATER_PARTS or checks.format == "2":
                faults.append(f"the catalog lacks '{name}'")
            continue
        checks.check(name, signs.watching(pages.rows(name, tree)))
    faults += [f"the catalog has a part {name!r} that is none of ours" for name in trees]
    checks.finish()


class _SignsOfLife:
    """Says now and then how far the walk has come."""

    def __init__(self, say: Say, pages: int, walked: CatalogPages) -> None:
        self._say = say
        self._pages = pages
        self._walked = walked
        self._next = time.monotonic() + _SECONDS_BETWEEN_SIGNS

    def watching(self, rows: Iterator[tuple[bytes, memoryview]]) -> Iterator[tuple[bytes, memoryview]]:
        for place, row in enumerate(rows):
            if place % _ROWS_BETWEEN_LOOKS == 0 and time.monotonic() >= self._next:
                self._say({"progress": 1 - self._walked.lost_pages() / self._pages})
                self._next = time.monotonic() + _SECONDS_BETWEEN_SIGNS
            yield row


def _transactions(path: Path) -> tuple[int, ...]:
    """Of both meta pages; () when they cannot be read."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        data = memoryview(mapped)
        try:
            return tuple(meta.transaction for meta in both_metas(data))
        except PageError:
            return ()
        finally:
            data.release()


def _meta_of(data: memoryview, transaction: int) -> Meta:
    found: Meta | None = next((meta for meta in both_metas(data) if meta.transaction == transaction), None)
    if found is None:
        raise PageError(f"no meta page is that of transaction {transaction}")
    return found


@contextlib.contextmanager
def _held(path: Path) -> Iterator[int]:
    """A transaction whose pages the writer leaves alone meanwhile, and whose meta page is still there."""
    with lmdb.open(str(path.parent), readonly=True, max_dbs=0, map_size=path.stat().st_size) as environment:
        for _ in range(_TRIES):
            with environment.begin() as transaction:
                if transaction.id() in _transactions(path):
                    yield transaction.id()
                    return
            time.sleep(0.01)
    raise PageError("commits follow each other faster than the meta pages can be read")
