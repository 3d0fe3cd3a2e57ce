"""What a collection is, as a row of the catalog: its name leads to JSON of the spec and the number.

The number is the collection's place in all other sub-databases. It stays the same when the spec is
rewritten, and is another one when a collection is dropped and made again under its name.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from regionsearch.collection.environment import Environment
from regionsearch.collection.records import CollectionSpec, IndexedField, IndexWish
from regionsearch.collection.row_seals import open_value, seal_value
from regionsearch.errors import CollectionNotFound
from regionsearch.fingerprint import Fingerprint

_NEXT_COLLECTION = b"next_collection"
_KEY_BYTES = 500
"""A name that has more is none of ours; LMDB refuses keys of 512."""


def spec_to_json(spec: CollectionSpec, number: int) -> bytes:
    probe = None if spec.probe is None else spec.probe.astype("<f4").tobytes()
    return json.dumps(
        {
            "number": number,
            "name": spec.name,
            "embedder": dataclasses.asdict(spec.embedder),
            "segmenter": dataclasses.asdict(spec.segmenter),
            "pixels": spec.pixels,
            "entity_limit": spec.entity_limit,
            "probe": None if probe is None else base64.b64encode(probe).decode(),
            "indexed_fields": [dataclasses.asdict(field) for field in spec.indexed_fields],
            "index": dataclasses.asdict(spec.index),
        }
    ).encode()


def spec_from_json(stored: bytes) -> tuple[CollectionSpec, int]:
    """The spec and the collection's number. What older JSON lacks has its default."""
    values = json.loads(stored)
    probe = values["probe"]
    if probe is not None:
        probe = np.frombuffer(base64.b64decode(probe), "<f4").astype(np.float32)
        probe.flags.writeable = False
    spec = CollectionSpec(
        name=values["name"],
        embedder=Fingerprint(**values["embedder"]),
        segmenter=Fingerprint(**values["segmenter"]),
        pixels=values["pixels"],
        entity_limit=values["entity_limit"],
        probe=probe,
        indexed_fields=tuple(IndexedField(**field) for field in values.get("indexed_fields", ())),
        index=IndexWish(**values.get("index", {})),
    )
    return spec, values["number"]


def stored_spec(environment: Environment, transaction: Any, name: str) -> bytes | None:
    """The JSON under a collection's name; aliases are not looked at."""
    key = name.encode("utf-8", "surrogatepass")[:_KEY_BYTES]
    value = transaction.get(key, db=environment.database("collections")) if key else None
    return None if value is None else bytes(open_value("collections", key, value))


def stored_names(environment: Environment, transaction: Any) -> list[str]:
    """Of all collections, in alphabetical order."""
    with transaction.cursor(db=environment.database("collections")) as cursor:
        return [str(key, "utf-8") for key in cursor.iternext(keys=True, values=False)]


def put_spec(environment: Environment, transaction: Any, spec: CollectionSpec, number: int) -> None:
    key = spec.name.encode()
    value = seal_value("collections", key, spec_to_json(spec, number))
    transaction.put(key, value, db=environment.database("collections"))


def delete_spec(environment: Environment, transaction: Any, name: str) -> None:
    transaction.delete(name.encode(), db=environment.database("collections"))


def rewrite_spec(
    environment: Environment,
    transaction: Any,
    name: str,
    number: int,
    change: Callable[[CollectionSpec], CollectionSpec],
) -> CollectionSpec:
    """Puts what `change` makes of the collection's spec in its place, and returns that.

    What is fixed at creation must come back from `change` as it was.
    Raises CollectionNotFound when the collection of this name and number was dropped.
    """
    stored = stored_spec(environment, transaction, name)
    if stored is None or spec_from_json(stored)[1] != number:
        raise CollectionNotFound(f"collection '{name}' was dropped")
    spec = change(spec_from_json(stored)[0])
    put_spec(environment, transaction, spec, number)
    return spec


def take_number(environment: Environment, transaction: Any) -> int:
    """A number for a new collection; none is given out twice."""
    formats = environment.database("format")
    stored = transaction.get(_NEXT_COLLECTION, db=formats)
    number = 1 if stored is None else int(bytes(open_value("format", _NEXT_COLLECTION, stored)))
    value = seal_value("format", _NEXT_COLLECTION, str(number + 1).encode())
    transaction.put(_NEXT_COLLECTION, value, db=formats)
    return number
