"""Finished records of a small space, for the tests of what a collection is asked beside searches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from regionsearch.client import Client, Record

DIMENSION = 8
LABELS = ("cat", "dog", None)


def unit(rows: int, seed: int, dimension: int = DIMENSION) -> np.ndarray:
    """(rows, dimension) float32 unit vectors."""
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def record(seed: int, entities: int = 2, **said: Any) -> Record:
    """Of a picture of 100 × 50 pixels: `r000`, of the year 2000, and so on; its entities have the labels in
    turn, beginning with the seed's."""
    fields: dict[str, Any] = {
        "image_id": f"r{seed:03}",
        "vectors": unit(1 + entities, seed),
        "width": 100,
        "height": 50,
        "boxes": [[10 * n, 5, 10 * n + 8, 25] for n in range(entities)],
        "labels": [LABELS[(seed + n) % 3] for n in range(entities)],
        "payload": {"year": 2000 + seed},
    }
    return Record(**{**fields, **said})


def wide(client: Client, name: str, seeds: Iterable[int]) -> None:
    """Upserts records with 60,000 bytes of payload each, few enough at once for small limits of messages."""
    left = list(seeds)
    while left:
        records = [record(seed, payload={"x": "y" * 60_000}) for seed in left[:10]]
        client.upsert_records(name, records)
        left = left[10:]


def fill(client: Client, name: str, seeds: Iterable[int], **settings: Any) -> str:
    """A new collection with a record of each seed; its name."""
    client.create_collection(name, space="clip-b32", dimension=DIMENSION, **settings)
    client.upsert_records(name, map(record, seeds))
    return name
