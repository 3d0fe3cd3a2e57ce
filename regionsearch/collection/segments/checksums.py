"""Checksums of a segment's files, compared before anything reads them.

FAISS's files carry none: a flipped bit passes silently or hangs the reader. crc32, block by block, so that
every core takes part in verifying: it notices any damage of up to 32 bits in a row, and reading 400 MB takes
a third of a second, where SHA-256 takes a half more (docs/index-segments.md has the figures).
"""

from __future__ import annotations

import errno
import mmap
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from regionsearch.errors import DataLoss

BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class FileSum:
    """name: in the segment's folder. size: bytes. checksums: crc32 of each block of BLOCK_BYTES."""

    name: str
    size: int
    checksums: tuple[int, ...]


def sum_file(path: Path) -> FileSum:
    """Reads every byte of a file, on one core: it is called beside searches."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return FileSum(path.name, 0, ())
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
            return FileSum(
                path.name, size, tuple(_checksum(mapped, at) for at in range(0, size, BLOCK_BYTES))
            )


def verify_files(folder: Path, sums: Sequence[FileSum]) -> None:
    """Reads every byte on all cores. Raises DataLoss naming the first file that is missing, cut or changed,
    and FileNotFoundError when the whole folder is gone."""
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    for expected in sums:
        path = folder / expected.name
        size = path.stat().st_size if path.is_file() else -1
        if size != expected.size:
            what = "is missing" if size < 0 else f"has {size} bytes instead of {expected.size}"
            raise DataLoss(f"'{path}' {what}")
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="checksums") as pool:
        for expected in sums:
            if not expected.size:
                continue
            path = folder / expected.name
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), expected.size, access=mmap.ACCESS_READ)
            with mapped:
                starts = range(0, expected.size, BLOCK_BYTES)
                found = list(pool.map(lambda at, mapped=mapped: _checksum(mapped, at), starts))
            if tuple(found) != expected.checksums:
                block = next(
                    at
                    for at, pair in enumerate(zip(found, expected.checksums, strict=True))
                    if len(set(pair)) > 1
                )
                raise DataLoss(
                    f"'{path}' does not match its checksum in bytes {block * BLOCK_BYTES} to "
                    f"{min(expected.size, (block + 1) * BLOCK_BYTES)}"
                )


def _checksum(mapped: mmap.mmap, at: int) -> int:
    with memoryview(mapped) as view, view[at : at + BLOCK_BYTES] as block:
        return zlib.crc32(block)
