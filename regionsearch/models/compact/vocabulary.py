"""What the compact embedder knows of words for pictures, and the tables that hold it.

Three small files ship beside this module. `regionsearch.training.derive_vocabulary` makes them from
WordNet, the list of ImageNet's classes and the verified weights; no photo and no annotation goes in.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import ModelUnavailable

CLASSES_FILE = "imagenet_classes.txt"
CLASS_VECTORS_FILE = "class_vectors.npz"
PROJECTION_FILE = "visual_projection.npz"
SHA256 = {
    CLASSES_FILE: "2b7736fc157733e7593b2b5d381defd30a94751de43914de556e295b93f7bc22",
    CLASS_VECTORS_FILE: "b9ab8f725d5a09615d778d264e0f59a84f5e21704471959e491b6b744671a65c",
    PROJECTION_FILE: "f2c460a16c0bc31783022cd993da3af09e6ff206384a72491aa0c2280bc47a8d",
}
"""Hex digests of the shipped tables; part of the embedder's fingerprint."""


@dataclass(frozen=True, slots=True)
class ImagenetClass:
    """synset: WordNet's offset (`n02084071`). names: its words, the usual one first. gloss: what the
    dictionary says it is."""

    synset: str
    names: tuple[str, ...]
    gloss: str


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """class_vectors: (1000, 384) float32, what each ImageNet class means in the text encoder's space,
        unit length, in the order of the network's classifier.
    centre: (384,) float32, their mean. It is taken off every vector of words and of pictures: what all
        class names have in common says nothing about any picture.
    projection: (256, 1280) float32, orthonormal rows: the directions of the network's pooled features
        in which the classes differ most.
    """

    class_vectors: NDArray[np.float32]
    centre: NDArray[np.float32]
    projection: NDArray[np.float32]


def load_vocabulary() -> Vocabulary:
    """Raises ModelUnavailable when a shipped table is missing or is not the one that was shipped."""
    with np.load(_table(CLASS_VECTORS_FILE)) as table:
        class_vectors = table["class_vectors"].astype(np.float32)
    with np.load(_table(PROJECTION_FILE)) as table:
        projection = table["projection"].astype(np.float32)
    return Vocabulary(class_vectors, class_vectors.mean(axis=0), projection)


def load_classes() -> list[ImagenetClass]:
    """The 1,000 classes in the order of the network's classifier. Raises ModelUnavailable likewise."""
    return [parse_class(line) for line in _table(CLASSES_FILE).read().decode().splitlines()]


def parse_class(line: str) -> ImagenetClass:
    synset, names, gloss = line.split("\t")
    return ImagenetClass(synset, tuple(names.split(", ")), gloss)


def _table(name: str) -> io.BytesIO:
    file = resources.files("regionsearch.models.compact").joinpath(name)
    if not file.is_file():
        raise ModelUnavailable(f"{file} is missing: install regionsearch again")
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256[name]:
        raise ModelUnavailable(
            f"{file} has sha256 {found}, but {SHA256[name]} was shipped: install regionsearch again"
        )
    return io.BytesIO(data)
