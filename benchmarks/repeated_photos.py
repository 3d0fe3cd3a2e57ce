"""Collections of thousands of images for benchmarks: drawn, or real photos repeated with noise.

Drawn images have vectors with something in common, as those of real ones do, and ellipses as entities. Of
real photos the compact models compute the records once; each copy then gets Gaussian noise in every vector,
so that its cosine to the photo's is 0.9 on average, and a name of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import ImageRecord
from regionsearch.entities import Entities
from regionsearch.ingest import EncodedImage, Pipeline
from regionsearch.models.embedder import Embedder
from regionsearch.models.segmenter import Segmenter
from regionsearch.regions import Mask

WIDTH, HEIGHT = 640, 480
"""Of drawn images, pixels."""
BATCH = 250
COSINE = 0.9
LABELS = ("thing", "other thing", None)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    divided: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
    return divided


def drawn_masks(rng: np.random.Generator, count: int) -> list[Mask]:
    """Ellipses of many sizes: as many runs as the outlines of things have."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    masks = []
    for _ in range(count):
        y, x = rng.uniform(0.2, 0.8) * HEIGHT, rng.uniform(0.2, 0.8) * WIDTH
        ry, rx = rng.uniform(0.05, 0.4) * HEIGHT, rng.uniform(0.05, 0.4) * WIDTH
        masks.append(Mask.from_array(((rows - y) / ry) ** 2 + ((columns - x) / rx) ** 2 <= 1))
    return masks


def drawn_images(images: int, entities: int, dimension: int) -> Iterator[list[ImageRecord]]:
    """Batches of finished records with labels; the same for the same arguments."""
    rng = np.random.default_rng(0)
    masks = drawn_masks(rng, 64)
    for start in range(0, images, BATCH):
        batch = []
        for number in range(start, min(images, start + BATCH)):
            scene = rng.normal(size=dimension)
            vectors = unit(scene + rng.normal(size=(1 + entities, dimension)))
            chosen = [masks[place] for place in rng.choice(len(masks), entities, replace=False)]
            found = Entities.from_masks(chosen, rng.uniform(0, 1, entities).astype(np.float32))
            labels = tuple(LABELS[place] for place in rng.integers(len(LABELS), size=entities))
            found = dataclasses.replace(
                found, labels=labels, label_sources=tuple(label and "predicted" for label in labels)
            )
            batch.append(ImageRecord(f"{number:06}", WIDTH, HEIGHT, found, vectors))
        yield batch


def photographed(
    folders: Sequence[Path], embedder: Embedder, segmenter: Segmenter, entities: int
) -> list[ImageRecord]:
    """The records of all photos in the folders, with at most so many entities each."""
    pipeline = Pipeline(embedder, segmenter, entity_limit=entities, pixels="none")
    found: list[ImageRecord] = []
    for folder in folders:
        photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        for start in range(0, len(photos), 8):
            batch = [
                EncodedImage(f"{folder.parent.name}/{path.name}", path.read_bytes())
                for path in photos[start : start + 8]
            ]
            records, failures = pipeline.run(batch)
            if failures:
                raise ValueError(f"{failures[0]}")
            found += records
    return found


def repeated(records: Sequence[ImageRecord], images: int, seed: int = 0) -> Iterator[list[ImageRecord]]:
    """Batches of so many images: first the records themselves, then copies with noise."""
    rng = np.random.default_rng(seed)
    for start in range(0, images, BATCH):
        yield [
            _copy(records[number % len(records)], number // len(records), rng)
            for number in range(start, min(images, start + BATCH))
        ]


def _copy(record: ImageRecord, copy: int, rng: np.random.Generator) -> ImageRecord:
    if copy == 0:
        return record
    return dataclasses.replace(
        record,
        image_id=f"{record.image_id}#{copy}",
        vectors=with_noise(record.vectors, rng),
        content_hash="",
    )


def with_noise(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors whose cosine to those given is `COSINE` on average."""
    scale = math.sqrt(1 / COSINE**2 - 1) / math.sqrt(vectors.shape[-1])
    return unit(vectors + scale * rng.standard_normal(vectors.shape))


def collages(records: Sequence[ImageRecord], images: int, seed: int = 0) -> Iterator[list[ImageRecord]]:
    """Batches of so many images, each of two different photos: half of each one's entities, every vector
    with noise, and a mixture of the photos' own vectors. Copies of one photo would be each other's nearest
    neighbours; these are as many different scenes as there are pairs."""
    rng = np.random.default_rng(seed)
    for start in range(0, images, BATCH):
        batch = []
        for number in range(start, min(images, start + BATCH)):
            one, other = (records[place] for place in rng.choice(len(records), 2, replace=False))
            batch.append(_collage(f"{number:06}", one, other, rng))
        yield batch


def _collage(image_id: str, one: ImageRecord, other: ImageRecord, rng: np.random.Generator) -> ImageRecord:
    halves = [
        (record, rng.permutation(len(record.entities))[: (len(record.entities) + 1) // 2])
        for record in (one, other)
    ]
    share = rng.uniform(0.3, 0.7)
    scene = unit(share * one.vectors[:1] + (1 - share) * other.vectors[:1])
    vectors = np.concatenate([scene, *(record.vectors[1 + chosen] for record, chosen in halves)])
    # Both photos fill the frame of the first.
    masks = [
        record.entities.masks[place].resized(one.height, one.width)
        for record, chosen in halves
        for place in chosen.tolist()
    ]
    kept = [place for place, mask in enumerate(masks) if mask.pixels]
    objectness = np.concatenate([record.entities.objectness[chosen] for record, chosen in halves])
    return ImageRecord(
        image_id,
        one.width,
        one.height,
        Entities.from_masks([masks[place] for place in kept], objectness[kept]),
        with_noise(vectors[[0, *(1 + place for place in kept)]], rng),
    )
