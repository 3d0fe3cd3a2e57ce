"""Results of writes that came with an idempotency key: the same request again is answered, not done again.

Rows of `idempotency`, after the collection's number (u32, big endian):

"k" | key in UTF-8                        -> time, sha256 of the request, the result as JSON
"t" | time (u64, big endian) | key        -> nothing: the order in which they are forgotten
"n" |                                     -> how many there are

Every value is sealed (row_seals.py).

They are written in the transaction of the write itself, so a result is remembered exactly when its write
is kept. Results hold image numbers and versions, no image ids and nothing of the images.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from regionsearch.collection.environment import Environment
from regionsearch.collection.record_layout import Buffer
from regionsearch.collection.row_seals import open_value, seal_value
from regionsearch.errors import InvalidRequest

MAX_KEY_BYTES = 128
KEPT_SECONDS = 24 * 3_600
KEPT_RESULTS = 50_000
"""Of one collection. A call of 64 images leaves about 1.5 kB: 75 MB at most."""
SWEPT_AT_ONCE = 32
"""Forgotten by each write that remembers one: more than come, so that an overhang shrinks, and no pause."""
_COLLECTION = struct.Struct(">I")
_TIME = struct.Struct(">Q")
_VALUE = struct.Struct("<Q32s")
_COUNT = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class OnceOnly:
    """A request that is to be done once. digest: sha256 of all that it says; time: µs since 1970."""

    key: str
    digest: bytes
    time: int


def check_key(key: str) -> None:
    """Raises InvalidRequest unless it is text of 1 to 128 bytes of UTF-8 without control characters."""
    try:
        size = len(key.encode()) if isinstance(key, str) else 0
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= MAX_KEY_BYTES or not key.isprintable():
        raise InvalidRequest(
            f"idempotency key {key!r:.300} must be printable text of 1 to {MAX_KEY_BYTES} bytes",
            field="idempotency_key",
        )


def digest_of(kind: str, parts: Iterable[bytes | memoryview]) -> bytes:
    """sha256 of a request: what it does, and its parts in their order, each with its length."""
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.digest()


class StoredResults:
    """Of one collection; every method works inside a transaction that the caller holds."""

    def __init__(self, environment: Environment, collection: int) -> None:
        self._rows = environment.database("idempotency")
        prefix = _COLLECTION.pack(collection)
        self._keys, self._times, self._count = prefix + b"k", prefix + b"t", prefix + b"n"

    def earlier(self, transaction: Any, once: OnceOnly) -> Any | None:
        """What the same request was answered less than 24 hours ago, as JSON has it; None when it was not.

        Raises InvalidRequest when another request came under this key, DataLoss when the row is damaged.
        """
        row = self._row(transaction, self._keys + once.key.encode())
        if row is None:
            return None
        time, digest = _VALUE.unpack_from(row)
        if once.time - time > KEPT_SECONDS * 1_000_000:
            return None
        if digest != once.digest:
            raise InvalidRequest(
                f"idempotency key '{once.key}' was given to another request before", field="idempotency_key"
            )
        return json.loads(bytes(row[_VALUE.size :]))

    def remember(self, transaction: Any, once: OnceOnly, result: Any) -> None:
        """Keeps a result (JSON) under the key, in place of any other, and forgets some that are old."""
        counted = self._row(transaction, self._count)
        count = 0 if counted is None else int(_COUNT.unpack(counted)[0])
        key = once.key.encode()
        before = self._row(transaction, self._keys + key)
        if before is None:
            count += 1
        else:
            time = _VALUE.unpack_from(before)[0]
            transaction.delete(self._times + _TIME.pack(time) + key, db=self._rows)
        coded = json.dumps(result, separators=(",", ":")).encode()
        self._put(transaction, self._keys + key, _VALUE.pack(once.time, once.digest) + coded)
        self._put(transaction, self._times + _TIME.pack(once.time) + key, b"")
        count -= self._sweep(transaction, once.time - KEPT_SECONDS * 1_000_000, count - KEPT_RESULTS)
        self._put(transaction, self._count, _COUNT.pack(count))

    def _sweep(self, transaction: Any, before: int, surplus: int) -> int:
        """Forgets up to 32, the oldest first, that are older than a time or too many. Returns how many."""
        swept = 0
        with transaction.cursor(db=self._rows) as cursor:
            while swept < SWEPT_AT_ONCE and cursor.set_range(self._times):
                row = bytes(cursor.key())
                at = len(self._times)
                if not row.startswith(self._times):
                    break
                if _TIME.unpack_from(row, at)[0] >= before and swept >= surplus:
                    break
                cursor.delete()
                transaction.delete(self._keys + row[at + _TIME.size :], db=self._rows)
                swept += 1
        return swept

    def _row(self, transaction: Any, key: bytes) -> Buffer | None:
        value = transaction.get(key, db=self._rows)
        return None if value is None else open_value("idempotency", key, value)

    def _put(self, transaction: Any, key: bytes, value: bytes) -> None:
        transaction.put(key, seal_value("idempotency", key, value), db=self._rows)
