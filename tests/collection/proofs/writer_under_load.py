"""A writer under load: threads that write images, one that seals, merges, compacts, takes snapshots,
restores them, switches aliases and drops collections, and one that says what it sees of all that.

Each write is logged before it begins and after it is acknowledged through standard output, which another
process reads: what this one believes dies with it. The lines are those that ledger.py reads.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
from marked_images import GONE, State, marked_record, state_of
from sightings import look_for_ever
from stored_images import spec

from regionsearch.collection import Collection, DataDirectory, data_directory, snapshots, steps
from regionsearch.collection.segments.upkeep import UpkeepSettings
from regionsearch.errors import CollectionNotFound

WRITERS = 2
IMAGES_PER_WRITER = 12
SMALL = UpkeepSettings.small()
"""Segments of a few rows, so that they are sealed, merged and compacted all the time."""


def image_ids() -> list[str]:
    return [f"{writer}-{number}" for writer in range(WRITERS) for number in range(IMAGES_PER_WRITER)]


def log(*lines: str) -> None:
    # One write of less than PIPE_BUF bytes: lines of several threads do not mix.
    os.write(1, "".join(line + "\n" for line in lines).encode())


def write_for_ever(collection: Collection, writer: int, seed: int) -> None:
    random = np.random.default_rng([seed, writer])
    mark = (seed * WRITERS + writer) * 1_000_000
    ids = [f"{writer}-{number}" for number in range(IMAGES_PER_WRITER)]
    states = {image_id: state_of(collection, image_id) for image_id in ids}
    while True:
        chosen = list(dict.fromkeys(random.choice(ids, size=random.integers(1, 4)).tolist()))
        mark += 1
        kind = random.random()
        new: dict[str, State]
        if kind < 0.2:
            new = dict.fromkeys(chosen, GONE)
            _announce("begin", new)
            collection.delete(chosen)
        elif kind < 0.4:
            image_id = chosen[0]
            if states[image_id] == GONE:
                continue
            new = {image_id: (states[image_id][0], mark)}
            _announce("begin", new)
            collection.update_payload(image_id, {"touched": mark}, merge=True)
        else:
            new = dict.fromkeys(chosen, (mark, mark))
            _announce("begin", new)
            records = [marked_record(image_id, mark) for image_id in chosen]
            key = f"{seed}-{mark}" if kind < 0.6 else ""
            collection.upsert(records, idempotency_key=key)
        _announce("done", new)
        states |= new


def _announce(kind: str, states: dict[str, State]) -> None:
    now = time.monotonic()
    log(*(f"{kind} {image_id} {mark} {touched} @{now:.6f}" for image_id, (mark, touched) in states.items()))


def keep_up_for_ever(
    directory: DataDirectory, collection: Collection, seed: int, outside: Path, die_at: str
) -> None:
    random = np.random.default_rng([seed, 99])
    # Most of the time what comes to the step at which this process is to die.
    asked = {"seal": "seal", "merge": "seal", "compact": "compact"}.get(die_at.partition(":")[0], "copy")
    turn = 0
    while True:
        kind = ("seal", "seal", "compact", "copy")[random.integers(4)]
        if die_at and random.random() < 0.7:
            kind = asked
        if kind == "seal":
            collection.seal()
        elif kind == "compact":
            # Merging takes the segments that would be compacted.
            collection.compact(merge=bool(random.random() < 0.3))
        else:
            turn += 1
            make_copy(directory, f"copy-{seed}-{turn}", outside / f"{seed}-{turn}.tar")


def make_copy(directory: DataDirectory, name: str, path: Path) -> None:
    """A snapshot, restored under another name, which the alias then names; the one it named before goes."""
    snapshots.create(directory, "photos", path)
    snapshots.restore(directory, path, name=name)
    path.unlink()
    log(f"begin alias {name}")
    before = directory.set_alias("newest", name)
    log(f"done alias {name}")
    if before is not None:
        log(f"begin dropped:{before} yes")
        directory.drop_collection(before)
        log(f"done dropped:{before} yes")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _end(failure: threading.ExceptHookArgs) -> None:
    """A thread that fails is a failure of the whole: the others would go on as if nothing were."""
    threading.__excepthook__(failure)
    os._exit(1)


def run(path: Path, seed: int, outside: Path, die_at: str = "", nth: int = 1) -> None:
    """Never returns. die_at: a step at whose nth time the process kills itself."""
    left = [nth]

    def watch(step: str) -> None:
        if step == die_at:
            left[0] -= 1
            if left[0] == 0:
                _die()

    steps.observe(watch)
    # A small collection's rows, too, are freed in several transactions.
    data_directory._SWEEP_ROWS = 20
    directory = DataDirectory(path, "write", upkeep=SMALL)
    try:
        collection = directory.collection("photos")
    except CollectionNotFound:
        collection = directory.create_collection(spec())
    collection.load()
    threading.excepthook = _end
    log("ready")
    threads = [
        threading.Thread(target=write_for_ever, args=(collection, writer, seed)) for writer in range(WRITERS)
    ]
    threads.append(
        threading.Thread(target=keep_up_for_ever, args=(directory, collection, seed, outside, die_at))
    )
    threads.append(threading.Thread(target=look_for_ever, args=(collection, image_ids(), log)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("outside", type=Path)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        run(arguments.path, arguments.seed, arguments.outside)


if __name__ == "__main__":
    main()
