"""Made store.tar.gz and expected.json, once, with the last version that wrote format 1 (of which it uses
the public interface, and `mark_dropped` for what a crash leaves of a drop). It cannot run with a later one.

    python make_store.py DESTINATION_FOLDER

The archive holds a data directory as it lies on disk; the catalog is a compacting copy, for LMDB's own file
is mostly empty pages.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from regionsearch.collection import Collection, CollectionSpec, DataDirectory, ImageRecord
from regionsearch.collection.catalog import mark_dropped
from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint
from regionsearch.regions import Box, Mask

DIMENSION = 16
HEIGHT, WIDTH = 48, 64


def vectors(random: np.random.Generator, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    drawn = random.standard_normal((count, DIMENSION)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def image(random: np.random.Generator, image_id: str, entities: int, **fields: Any) -> ImageRecord:
    masks = []
    for _ in range(entities):
        x, y = int(random.integers(0, WIDTH - 16)), int(random.integers(0, HEIGHT - 16))
        masks.append(
            Mask.from_box(
                Box(x, y, x + int(random.integers(2, 16)), y + int(random.integers(2, 16))), HEIGHT, WIDTH
            )
        )
    outlined = Entities.from_masks(masks, random.random(entities).astype(np.float32))
    labels = tuple([None, "dog", "Straße"][int(random.integers(3))] for _ in range(entities))
    return ImageRecord(
        image_id=image_id,
        width=WIDTH,
        height=HEIGHT,
        entities=Entities(
            masks=outlined.masks,
            boxes=outlined.boxes,
            areas=outlined.areas,
            objectness=outlined.objectness,
            labels=labels,
            label_sources=tuple(None if label is None else "given" for label in labels),
        ),
        vectors=vectors(random, 1 + entities),
        content_hash=fields.pop("content_hash", random.bytes(32).hex()),
        payload=fields.pop("payload", {"year": int(random.integers(1990, 2030)), "tags": ["ä", None, 1.5]}),
        **fields,
    )


def answers(collection: Collection, random: np.random.Generator) -> dict[str, Any]:
    """All that a caller can see of a collection, as JSON."""
    stats = collection.stats
    images = []
    for image_id in collection.image_ids():
        record = collection.get(image_id, pixels=True)
        entities = record.entities
        images.append(
            {
                "image_id": image_id,
                "number": record.number,
                "version": record.version,
                "updated": record.updated,
                "size": [record.width, record.height],
                "content_hash": record.content_hash,
                "payload": record.payload,
                "pixels": None if record.pixels is None else hashlib.sha256(record.pixels).hexdigest(),
                "vectors": hashlib.sha256(record.vectors.astype("<f4").tobytes()).hexdigest(),
                "boxes": entities.boxes.tolist(),
                "areas": entities.areas.tolist(),
                "objectness": entities.objectness.tolist(),
                "labels": list(entities.labels),
                "label_sources": list(entities.label_sources),
                "masks": [mask.to_coco() for mask in entities.masks],
            }
        )
    searches = []
    for query in vectors(random, 3):
        found, of_images = collection.search(query, 7), collection.search_images(query, 4)
        searches.append(
            {
                "query": query.tolist(),
                "entities": [found.numbers.tolist(), found.ordinals.tolist(), found.similarities.tolist()],
                "images": [of_images.numbers.tolist(), of_images.similarities.tolist()],
            }
        )
    return {
        "stats": {
            "images": stats.images,
            "entities": stats.entities,
            "bytes": stats.bytes,
            "dimension": stats.dimension,
        },
        "pixels": collection.spec.pixels,
        "entity_limit": collection.spec.entity_limit,
        "probe": None if collection.spec.probe is None else collection.spec.probe.tolist(),
        "background": collection.background(),
        "images": images,
        "searches": searches,
    }


def spec(name: str, **settings: Any) -> CollectionSpec:
    return CollectionSpec(
        name=name,
        embedder=Fingerprint("test-embedder", "ab" * 32, DIMENSION, 1),
        segmenter=Fingerprint("test-segmenter", "", 0, 1),
        **settings,
    )


def fill(directory: DataDirectory, random: np.random.Generator) -> None:
    photos = directory.create_collection(spec("photos", probe=vectors(random, 1)[0]))
    names = ["a/b.jpg", "c.jpg", "ü.png", "replaced.jpg", "deleted.jpg", "large payload.jpg"]
    for name in names:
        pixels = None if name == "c.jpg" else b"picture of " + name.encode() + random.bytes(200)
        payload: dict[str, Any] = {"year": len(name), "of": {"x": name}}
        if name.startswith("large"):
            payload = {"text": "x" * 9_000}
        photos.upsert([image(random, name, int(random.integers(1, 9)), pixels=pixels, payload=payload)])
    photos.upsert([image(random, "replaced.jpg", 3, payload={"second": True}, pixels=b"second picture")])
    photos.delete(["deleted.jpg"])
    photos.set_background({"version": "1", "mean": [0.1, 0.2]})
    plain = directory.create_collection(spec("plain", pixels="none", entity_limit=7))
    twin = "cd" * 32
    plain.upsert([image(random, f"{n:03}", 1 + n % 4, content_hash="" if n % 3 else twin) for n in range(40)])
    plain.delete([f"{n:03}" for n in range(0, 40, 7)])
    gone = directory.create_collection(spec("gone"))
    gone.upsert([image(random, f"gone {n}", 2, pixels=b"gone") for n in range(5)])


def hide(path: Path, name: str) -> None:
    """As a crash between the two halves of `drop_collection` leaves it."""
    with DataDirectory(path, "write") as directory:
        environment = directory._environment
        number = directory.collection(name).number
        with environment.transaction(write=True) as transaction:
            transaction.delete(name.encode(), db=environment.database("collections"))
            mark_dropped(environment, transaction, number)


def main() -> None:
    destination = Path(sys.argv[1])
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        with DataDirectory(path, "write") as directory:
            fill(directory, random)
        hide(path, "gone")
        with DataDirectory(path, "read") as directory:
            expected = {name: answers(directory.collection(name), random) for name in ("photos", "plain")}
        with lmdb.open(str(path / "catalog"), readonly=True, max_dbs=20) as environment:
            (Path(folder) / "compact").mkdir()
            environment.copy(str(Path(folder) / "compact"), compact=True)
        shutil.rmtree(path / "catalog")
        shutil.move(Path(folder) / "compact", path / "catalog")
        with tarfile.open(destination / "store.tar.gz", "w:gz") as archive:
            archive.add(path, "store")
    text = json.dumps(expected, ensure_ascii=False, indent=None, sort_keys=True)
    (destination / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
