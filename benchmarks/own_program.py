"""RegionSearch as one more program that `benchmarks.peers` asks, in a process of its own.

    python -m benchmarks.own_program regionsearch FOLDER

Speaks what peer_programs.py speaks. The vectors are the entities of images with 8 each, stored with records,
checksums and synced commits as ever, sealed into an index segment; asked through `Collection.search`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peer_programs import K, Peer, Served, Setting
from regionsearch.collection import CollectionSpec, DataDirectory, ImageRecord
from regionsearch.collection.records import IndexWish, Neighbours
from regionsearch.entities import Entities
from regionsearch.models.precomputed import fingerprints_of
from regionsearch.regions import Box, Mask

WISHES: Sequence[str] = tuple(
    [f"{recall} speed" for recall in ("0.9", "0.93", "0.95", "0.97", "0.98", "0.99")]
    + [f"{recall} memory" for recall in ("0.95", "0.99")]
)
"""Recall that is wished for and what is spared: of each the collection is built anew."""
ENTITIES = 8
BATCH = 256
HEIGHT, WIDTH = 40, 60


class RegionSearch(Peer):
    """A variant is a wish for recall and for what is spared."""

    packages = ("regionsearch",)
    variants = WISHES

    def build(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        recall, favour = variant.split()
        wish = IndexWish(float(recall), "speed" if favour == "speed" else "memory")
        spec = CollectionSpec("c", *fingerprints_of("hard", vectors.shape[1]), pixels="none", index=wish)
        masks = [Mask.from_box(Box(x, 0, x + 7, HEIGHT), HEIGHT, WIDTH) for x in range(ENTITIES)]
        entities = Entities.from_masks(masks, np.full(ENTITIES, 0.5, np.float32))
        with DataDirectory(path, "write") as directory:
            collection = directory.create_collection(spec)
            for first in range(0, len(vectors), ENTITIES * BATCH):
                records = [
                    ImageRecord(
                        f"{row:07}", WIDTH, HEIGHT, entities, _with_mean(vectors[row : row + ENTITIES])
                    )
                    for row in range(first, min(first + ENTITIES * BATCH, len(vectors)), ENTITIES)
                ]
                collection.upsert(records)
            collection.seal()

    def open(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        self.directory = DataDirectory(path, "read")
        self.collection = self.directory.collection("c")
        self.collection.load()
        # Images were stored in the order of their rows: their numbers ascend with them.
        numbers = sorted(self.collection.matching("").image_numbers().tolist())
        self.first_rows = {number: ENTITIES * place for place, number in enumerate(numbers)}

    def ask(self, query: np.ndarray, setting: Setting) -> Neighbours:
        return self.collection.search(query, K)

    def rows(self, answer: Any) -> list[int]:
        pairs = zip(answer.numbers.tolist(), answer.ordinals.tolist(), strict=True)
        return [self.first_rows[number] + ordinal for number, ordinal in pairs]


def _with_mean(entities: np.ndarray) -> np.ndarray:
    mean = entities.mean(axis=0)
    return np.concatenate([mean[None] / np.linalg.norm(mean), entities]).astype(np.float32)


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    served = Served(name, RegionSearch(folder), folder)
    for line in sys.stdin:
        answers.write(json.dumps(served.reply(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
