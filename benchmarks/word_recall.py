"""What kinds of index find for questions in words, over the vectors of real entities.

    python -m benchmarks.word_recall --vectors entities.npy --kinds ivf-sq6,ivf-sq8,ivf-rabitq

300 neutral phrases, encoded by the model that the vectors are of; each kind is built as it is for a wish of
0.95, and what it hands on is scored exactly, as a collection does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regionsearch.collection.segments.approximate import ApproximateIndex
from regionsearch.collection.segments.building import build_kind
from regionsearch.collection.segments.index_kinds import kind_for
from regionsearch.evaluation.ann_benchmark import FixedThreads, StoredVectors
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.background import neutral_phrases

K = 10
PHRASES = 300


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Recall of phrases in kinds of index.")
    parser.add_argument("--vectors", type=Path, required=True, help="an .npy file (n, d) of entities")
    parser.add_argument("--model", default="compact", help="that they are of (default: %(default)s)")
    parser.add_argument("--kinds", default="ivf-sq6,ivf-sq8,ivf-rabitq,ivf-rabitq-sq8")
    options = parser.parse_args(arguments)
    rows = np.load(options.vectors)
    embedder = ModelRegistry(threads=1).embedder(options.model)
    asked = np.ascontiguousarray(embedder.embed_texts(neutral_phrases()[:PHRASES]), np.float32)
    exact = np.argsort(-(asked @ rows.T), axis=1)[:, :K]
    print(f"{len(rows):,} rows, cosine to the nearest {np.median((asked @ rows.T).max(axis=1)):.2f}")
    with tempfile.TemporaryDirectory(prefix="regionsearch-bench-") as folder:
        for name in options.kinds.split(","):
            path = Path(folder) / name
            built = build_kind(path, StoredVectors(rows), kind_for(name, len(rows)), 0.95, FixedThreads(1))
            index = ApproximateIndex.open(path, built.parameters)
            worked, found, handed_on = [], [], []
            for query, right in zip(asked, exact, strict=True):
                begun = time.thread_time()
                places = index.search(query, K)[0]
                worked.append(time.thread_time() - begun)
                best = places[np.argsort(-(rows[places] @ query), kind="stable")[:K]]
                found.append(np.isin(right, best).mean())
                handed_on.append(len(places))
            print(
                f"{name:<16} recall {np.mean(found):.4f}  processor time p50 "
                f"{np.median(worked) * 1000:.3f} ms  handed on {np.mean(handed_on):.0f}  "
                f"{built.bytes / len(rows):.0f} bytes a row"
            )


if __name__ == "__main__":
    main()
