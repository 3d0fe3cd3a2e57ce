"""Inner products of queries with many rows, by FAISS's kernel, on as many cores as stand idle."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import ModelUnavailable

WORTH_SHARING_BYTES = 16 << 20
"""Of the rows of one query: below this, waking another thread costs more than it saves."""


def load_faiss() -> ModuleType:
    """Raises ModelUnavailable, saying what to install, when neither FAISS package is there."""
    try:
        import faiss
    except ImportError as error:
        raise ModelUnavailable(
            "searching a collection needs FAISS: pip install 'regionsearch[faiss-cpu]' "
            "or 'regionsearch[faiss-gpu]'"
        ) from error
    module: ModuleType = faiss
    return module


def inner_products(blocks: Sequence[NDArray[np.float32]], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) float32: of `query` (d,) with each of the n rows of the blocks (n_i, d), C-contiguous.

    A row's product depends on nothing but the row and the query, so equal rows tie wherever they
    stand (a matrix product in BLAS does not promise that).
    """
    query = np.ascontiguousarray(query, np.float32)
    if len(blocks) == 1:
        products = np.empty(len(blocks[0]), np.float32)
        _work_off(iter([(blocks[0], products)]), query)
        return products
    ends = np.cumsum([len(block) for block in blocks])
    products = np.empty(int(ends[-1]) if len(blocks) else 0, np.float32)
    parts = np.split(products, ends[:-1]) if len(blocks) else []
    # An iterator of a list hands each element to one taker, also when several threads take.
    todo = iter(list(zip(blocks, parts, strict=True)))
    if products.nbytes * len(query) < WORTH_SHARING_BYTES:
        _work_off(todo, query)
        return products
    # Whoever is free takes the next block. A helper that never gets a core is not waited for, so that
    # many searches at once cost no more than each alone on its thread.
    helpers = [_pool().submit(_work_off, todo, query) for _ in range(_idle_cores())]
    _work_off(todo, query)
    for helper in helpers:
        if not helper.cancel():
            helper.result()
    return products


def products_where_they_lie(
    blocks: Sequence[NDArray[np.float32]], queries: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """(q, n) float32: the same products of several queries (d,), for blocks of some 100 kB in any memory.

    Each block is compared with all queries while it is in the core's cache, so that further queries read
    no memory, and nothing is copied. On one thread: what a second one would take over is shorter than
    handing the interpreter's lock to and fro.
    """
    faiss = load_faiss()
    kernel, pointer = faiss.fvec_inner_products_ny, faiss.swig_ptr
    products = np.empty((len(queries), sum(map(len, blocks))), np.float32)
    asked = [np.ascontiguousarray(query, np.float32) for query in queries]
    todo = [(pointer(query), of_query) for query, of_query in zip(asked, products, strict=True)]
    at = 0
    for block in blocks:
        count, dimension = block.shape
        # A short record lies anywhere in a page of LMDB.
        rows = block if block.flags.aligned else block.copy()
        of_rows = pointer(rows)
        for query, of_query in todo:
            kernel(pointer(of_query[at:]), query, of_rows, dimension, count)
        at += count
    return products


def _work_off(
    todo: Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]], query: NDArray[np.float32]
) -> None:
    faiss = load_faiss()
    for rows, products in todo:
        # The kernel runs on the calling thread and gives up the interpreter's lock meanwhile.
        faiss.fvec_inner_products_ny(
            faiss.swig_ptr(products), faiss.swig_ptr(query), faiss.swig_ptr(rows), len(query), len(rows)
        )


def _idle_cores() -> int:
    return max(0, (os.cpu_count() or 1) - 1)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, _idle_cores()), thread_name_prefix="inner-products")
