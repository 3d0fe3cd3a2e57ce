"""What snapshots, restoring and purging take on this machine: a table, and JSON with --json.

    python -m benchmarks.snapshots [--images 20000] [--entities 8] [--dimension 384] [--folder DIR] [--json]

Random unit vectors, payloads of a few fields, all rows sealed into index segments first. Each step runs once;
memory is how far the process's resident memory rose during the step above what it had before it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regionsearch.collection import CollectionSpec, DataDirectory, ImageRecord, snapshots
from regionsearch.collection.purging import purge
from regionsearch.collection.scrubbing import scrub
from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint
from regionsearch.regions import Box, Mask

HEIGHT, WIDTH = 480, 640
IMAGES_A_CALL = 500


def records(
    random: np.random.Generator, first: int, count: int, entities: int, dimension: int
) -> list[ImageRecord]:
    masks = [
        Mask.from_box(Box(8 * place, 0, 8 * place + 200, 100 + place), HEIGHT, WIDTH)
        for place in range(entities)
    ]
    outlined = Entities.from_masks(masks, random.random(entities).astype(np.float32))
    made = []
    for number in range(first, first + count):
        vectors = random.standard_normal((1 + entities, dimension), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        made.append(
            ImageRecord(
                image_id=f"{number:07}.jpg",
                width=WIDTH,
                height=HEIGHT,
                entities=outlined,
                vectors=vectors,
                content_hash=random.bytes(32).hex(),
                payload={"number": number, "note": f"photo {number} of many"},
            )
        )
    return made


def resident_bytes() -> int:
    """Of anonymous memory: pages of files that LMDB maps are the system's to take back."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell how much memory is in use")


def measured(action: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What it returns, its seconds, and by how many MiB memory rose at most."""
    before = most = resident_bytes()
    over = threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(0.02):
            most = max(most, resident_bytes())

    watching = threading.Thread(target=look)
    watching.start()
    start = time.perf_counter()
    result = action()
    seconds = time.perf_counter() - start
    over.set()
    watching.join()
    return result, {"seconds": seconds, "mib": (most - before) / 2**20}


def measure(folder: Path, images: int, entities: int, dimension: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    spec = CollectionSpec(
        "photos", Fingerprint("random", "", dimension, 0), Fingerprint("random", "", 0, 0), "none"
    )
    steps: dict[str, Any] = {}
    with DataDirectory(folder / "data", "write") as directory:
        collection = directory.create_collection(spec)
        for first in range(0, images, IMAGES_A_CALL):
            count = min(IMAGES_A_CALL, images - first)
            collection.upsert(records(random, first, count, entities, dimension))
        collection.seal()
        taken = {"folder": folder / "snapshot", "tar": folder / "snapshot.tar"}
        for shape, path in taken.items():
            info, steps[f"create, {shape}"] = measured(
                lambda path=path: snapshots.create(directory, "photos", path)
            )
            report, steps[f"verify, {shape}"] = measured(lambda path=path: snapshots.verify(path))
            if not report.ok:
                raise RuntimeError(f"{path}: {report.problems}")
            _, steps[f"restore, {shape}"] = measured(
                lambda path=path, shape=shape: snapshots.restore(directory, path, name=shape)
            )
            directory.drop_collection(shape)
        purged, steps["purge one image, tar rewritten"] = measured(
            lambda: purge(directory, "photos", ["0000007.jpg"], snapshots=[taken["tar"]])
        )
        _, steps["compact alone, after a deletion"] = measured(
            lambda: (collection.delete(["0000008.jpg"]), collection.compact())
        )
        _, steps["scrub alone"] = measured(lambda: scrub(directory.environment))
        _, steps["purge another, no snapshot"] = measured(lambda: purge(directory, "photos", ["0000009.jpg"]))
    return {
        "images": images,
        "entities": images * entities,
        "dimension": dimension,
        "snapshot_bytes": info.bytes,
        "complete": purged.complete,
        "steps": steps,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--entities", type=int, default=8)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--folder", type=Path, help="where it is written, and removed (default: temporary)")
    parser.add_argument("--json", action="store_true")
    parsed = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(dir=parsed.folder))
    try:
        report = measure(folder, parsed.images, parsed.entities, parsed.dimension)
    finally:
        shutil.rmtree(folder)
    if parsed.json:
        print(json.dumps(report))
        return
    print(f"{report['images']:,} images, {report['entities']:,} entities of {report['dimension']} dimensions")
    print(f"{report['snapshot_bytes'] / 2**20:,.1f} MiB in a snapshot")
    for name, step in report["steps"].items():
        print(f"{name:<32} {step['seconds']:7.2f} s  {step['mib']:7.1f} MiB more")


if __name__ == "__main__":
    main()
