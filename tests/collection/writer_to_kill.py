"""A writer under load. Each write is logged, before it begins and after it is acknowledged, through a
pipe that another process reads: what this one believes dies with it.

Arguments: the data directory, a seed. Lines: `begin IMAGE VERSION_MARK` and `done IMAGE VERSION_MARK`,
where the mark is what the payload says; mark -1 is a deletion.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
from stored_images import record, spec

from regionsearch.collection import Collection, DataDirectory
from regionsearch.errors import CollectionNotFound

THREADS = 3


def open_collection(path: Path) -> Collection:
    directory = DataDirectory(path, "write")
    try:
        return directory.collection("photos")
    except CollectionNotFound:
        return directory.create_collection(spec())


def log(*lines: str) -> None:
    # One write of less than PIPE_BUF bytes: lines of several threads do not mix.
    os.write(1, "".join(line + "\n" for line in lines).encode())


def write_for_ever(collection: Collection, thread: int, seed: int) -> None:
    random = np.random.default_rng([seed, thread])
    mark = (seed * THREADS + thread) * 1_000_000
    while True:
        ids = [f"{thread}-{number}" for number in random.integers(8, size=random.integers(1, 4))]
        ids = list(dict.fromkeys(ids))
        if random.random() < 0.2:
            log(*(f"begin {image_id} -1" for image_id in ids))
            collection.delete(ids)
            log(*(f"done {image_id} -1" for image_id in ids))
            continue
        mark += 1
        # Every part of the record says which write it is of, so that a mixture shows.
        batch = [
            record(random, image_id, payload={"mark": mark}, content_hash=f"{mark:064x}", pixels=b"%d" % mark)
            for image_id in ids
        ]
        log(*(f"begin {image_id} {mark}" for image_id in ids))
        collection.upsert(batch)
        log(*(f"done {image_id} {mark}" for image_id in ids))


def main() -> None:
    collection = open_collection(Path(sys.argv[1]))
    collection.load()
    threads = [
        threading.Thread(target=write_for_ever, args=(collection, thread, int(sys.argv[2])))
        for thread in range(THREADS)
    ]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main()
