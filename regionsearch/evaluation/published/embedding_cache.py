"""Vectors on disk, so that a run that was killed goes on where it was.

One file a model, append-only: a header of HEADER bytes that names the model (JSON, padded with
spaces), then records of one size: the input's key (32 bytes), its vector (float32, little endian) and
the crc32 of both. A record is believed when its checksum agrees, so a tail that was torn by a crash
is cut off and a damaged record is computed again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import FailedPrecondition, InvalidRequest
from regionsearch.fingerprint import Fingerprint

HEADER = 512
FORMAT = 1
KEY_BYTES = 32
SUFFIX = ".vectors"


class EmbeddingCache:
    """The vectors of one model in `folder`, by key. One process at a time.

    Raises FailedPrecondition when another process has the file open, InvalidRequest when the file is of
    another format or the folder cannot be used. Not safe for several threads.
    """

    def __init__(self, folder: Path, fingerprint: Fingerprint) -> None:
        self._record = np.dtype([("key", "V32"), ("vector", "<f4", (fingerprint.dimension,)), ("crc", "<u4")])
        # The name leaves out where the weights lie, as the model's identity does.
        identity = {
            "format": FORMAT,
            "kind": fingerprint.kind,
            "weights": fingerprint.weights,
            "dimension": fingerprint.dimension,
            "preprocessing": fingerprint.preprocessing,
        }
        header = json.dumps(identity, sort_keys=True).encode()
        self.path = folder / f"{fingerprint.kind}-{hashlib.sha256(header).hexdigest()[:16]}{SUFFIX}"
        self.damaged = 0
        """Records that were not believed when the file was opened."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        except OSError as error:
            raise InvalidRequest(
                f"cannot keep vectors in {folder}: {error.strerror}", field="cache"
            ) from error
        try:
            self._lock()
            self._start(header.ljust(HEADER))
            self._rows = self._believed()
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def row(self, key: bytes) -> int:
        """The number under which `vectors` finds the key's vector. Raises KeyError."""
        return self._rows[key]

    def append(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """vectors: (n, d), one a key. Handed to the operating system before this returns."""
        records = np.empty(len(keys), dtype=self._record)
        records["vector"] = vectors
        for place, key in enumerate(keys):
            records["key"][place] = np.void(key)
            records["crc"][place] = _checksum(records[place].tobytes())
        self._file.write(records.tobytes())
        self._file.flush()
        self._rows.update((key, self._end + place) for place, key in enumerate(keys))
        self._end += len(keys)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, d) float32 of these rows, read from the file."""
        if not len(rows):
            return np.empty((0, self._record["vector"].shape[0]), dtype=np.float32)
        mapped = np.memmap(self.path, dtype=self._record, mode="r", offset=HEADER, shape=(self._end,))
        return np.array(mapped["vector"][rows], dtype=np.float32)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FailedPrecondition(f"another process is writing to {self.path}", field="cache") from error

    def _start(self, header: bytes) -> None:
        self._file.seek(0)
        found = self._file.read(HEADER)
        if found == header:
            return
        if len(found) == HEADER or not header.startswith(found):
            raise InvalidRequest(
                f"{self.path} is not a file of vectors of format {FORMAT}; move it away", field="cache"
            )
        # Nothing, or a header that a crash cut short.
        self._file.truncate(0)
        self._file.write(header)
        self._file.flush()

    def _believed(self) -> dict[bytes, int]:
        """Row by key of all sound records; what follows the last whole record is cut off."""
        size = os.fstat(self._file.fileno()).st_size - HEADER
        self._end, torn = divmod(size, self._record.itemsize)
        if torn:
            self._file.truncate(HEADER + self._end * self._record.itemsize)
        self._file.seek(HEADER)
        rows: dict[bytes, int] = {}
        for row in range(self._end):
            record: Any = self._file.read(self._record.itemsize)
            if int.from_bytes(record[-4:], "little") == _checksum(record):
                rows[record[:KEY_BYTES]] = row
            else:
                self.damaged += 1
        self._file.seek(0, os.SEEK_END)
        return rows


def _checksum(record: bytes) -> int:
    return zlib.crc32(record[:-4])
