"""A small store that has some of everything, all that can be asked of it, and places to damage.

As a program: opens a store and compares its answers, for `answers_of_child`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import json
import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stored_images import record, spec, unit_vectors

from regionsearch.collection import Collection, DataDirectory
from regionsearch.collection.integrity import verify
from regionsearch.collection.integrity.clean_stop import CLEAN_STOP
from regionsearch.collection.integrity.pages import CatalogPages, current_meta
from regionsearch.collection.records import IndexedField
from regionsearch.collection.segments.upkeep_settings import UpkeepSettings
from regionsearch.errors import DataLoss, RegionSearchError

BY_HAND = UpkeepSettings.small(background=False)
FIELDS = (IndexedField("year", "number"), IndexedField("tags", "string"))


def make_store(path: Path, images: int = 60) -> None:
    """Two collections, index segments, unsealed rows, replaced and deleted images, kept pictures, columns, a
    background, an alias and remembered requests."""
    random = np.random.default_rng(11)
    with DataDirectory(path, "write", upkeep=BY_HAND) as directory:
        photos = directory.create_collection(spec("photos", indexed_fields=FIELDS))
        for start in range(0, images, 10):
            batch = [
                record(random, f"{number:03}", pixels=b"picture %d" % number * (1 + number % 40))
                for number in range(start, start + 10)
            ]
            photos.upsert(batch, idempotency_key=f"batch {start}")
        photos.delete([f"{number:03}" for number in range(0, images, 9)])
        photos.seal()
        photos.upsert([record(random, f"{number:03}") for number in range(images - 20, images, 3)])
        photos.update_payload("001", {"year": 1888, "tags": ["new"]})
        photos.set_background({"version": "1", "mean": [0.1, 0.2]})
        plain = directory.create_collection(spec("plain", pixels="none"))
        plain.upsert([record(random, f"p{number}", content_hash="") for number in range(8)])
        directory.set_alias("newest", "photos")


def answers(directory: DataDirectory, *, raised: list[str]) -> dict[str, Any]:
    """All that a caller can see. What cannot be had because of damage is left out and told in `raised`."""
    seen: dict[str, Any] = {}

    def ask(what: str, question: Callable[[], Any]) -> Any:
        try:
            seen[what] = question()
        except RegionSearchError as error:
            raised.append(f"{what}: {error.message}")
            seen[what] = None
        return seen[what]

    ask("aliases", directory.aliases)
    for name in ask("names", directory.collection_names) or []:
        collection = ask_collection(ask, directory, name)
        if collection is None:
            continue
        ids = ask(f"{name}: ids", lambda collection=collection: list(collection.image_ids())) or []
        for image_id in ids:
            ask(f"{name}: {image_id}", lambda c=collection, i=image_id: described(c, i))
        for place, query in enumerate(unit_vectors(np.random.default_rng(3), 3)):
            for search in (collection.search, collection.search_images):

                def found(search: Any = search, query: Any = query) -> Any:
                    rows = search(query, 9)
                    return [rows.numbers.tolist(), rows.ordinals.tolist(), rows.similarities.tolist()]

                ask(f"{name}: {search.__name__} {place}", found)
        for where in ("payload.year >= 2010", 'payload.tags = "new"', "entity.area > 0.01"):
            ask(f"{name}: {where}", lambda c=collection, w=where: [c.count(w).images, c.count(w).entities])
    return seen


def ask_collection(ask: Any, directory: DataDirectory, name: str) -> Collection | None:
    holder: list[Collection] = []

    def facts() -> Any:
        collection = directory.collection(name)
        stats = collection.stats
        holder.append(collection)
        return [stats.images, stats.entities, stats.bytes, collection.background()]

    ask(name, facts)
    return holder[0] if holder else None


def described(collection: Collection, image_id: str) -> Any:
    image = collection.get(image_id, pixels=True)
    parts = [image.vectors.tobytes(), image.entities.boxes.tobytes(), image.pixels or b""]
    parts += [repr((image.payload, image.version, image.updated, image.entities.labels)).encode()]
    return [image.number, hashlib.sha256(b"".join(parts)).hexdigest()]


def live_rows(data: bytes | bytearray) -> dict[tuple[str, bytes], tuple[int, int]]:
    """Where the values of all rows lie in LMDB's file: (sub-database, key) to (offset, bytes)."""
    view = memoryview(data)
    pages = CatalogPages(view, current_meta(view), lambda fault: None)
    found = {}
    for name, tree in pages.sub_databases().items():
        for key, value in pages.rows(name, tree):
            if len(value):
                found[name, key] = (offset(value, view), len(value))
    return found


def offset(part: memoryview, whole: memoryview) -> int:
    """Where a view begins in another, in bytes."""
    places = [np.frombuffer(view, np.uint8).__array_interface__["data"][0] for view in (part, whole)]
    return int(places[0] - places[1])


def flip(path: Path, at: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def damage_row(store: Path, database: str, which: int = 0, at: int = 0) -> bytes:
    """Flips a bit of the value of a row, the `which`th of its sub-database; returns its key."""
    data = store / "catalog" / "data.mdb"
    rows = live_rows(data.read_bytes())
    key = sorted(key for name, key in rows if name == database)[which]
    flip(data, rows[database, key][0] + at)
    return key


def copy_of(store: Path, destination: Path) -> Path:
    shutil.rmtree(destination, ignore_errors=True)
    shutil.copytree(store, destination)
    return destination


def judged(store: Path, expected: dict[str, Any], *, killed: bool) -> str:
    """What a damaged store does: `same` answers, `reported` (by verify, by the open, by what was asked), or
    what is wrong. killed: as if its last writer had not closed it, so that opening examines it.
    """
    try:
        report = verify(store)
    except RegionSearchError:  # it is no data directory any more, or one of another format
        return "reported"
    if killed:
        (store / CLEAN_STOP).unlink(missing_ok=True)
    elif not report.ok:
        return "reported"
    raised: list[str] = []
    try:
        with DataDirectory(store, "read") as directory:
            damaged = directory.environment.damaged
            seen = answers(directory, raised=raised)
    except RegionSearchError as error:
        return "reported" if isinstance(error, DataLoss) or not report.ok else f"raised {error!r}"
    if json.loads(json.dumps(seen)) == expected:
        return "same"
    if raised or damaged or not report.ok:
        return "reported"
    differing = [what for what, answer in expected.items() if seen.get(what) != answer]
    return f"silent: {differing[:3]}"


def in_child(work: Callable[[], str], *, alone: bool) -> str:
    """Runs `work` in a fork of this process, which has nothing open, and returns what it returned.

    alone: catalogs are examined in that fork, and not in one more process each time, which takes most of it.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with contextlib.suppress(BaseException):
            signal.alarm(120)
            if alone:
                sys.executable = "/no such interpreter"
            try:
                said = work()
            except BaseException:
                said = "failed: " + traceback.format_exc()[-1500:]
            os.write(writing, said.encode()[:60_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return said


def main() -> None:
    """Arguments: a store, a folder for copies, the file to damage (below the store), JSON of damages:
    [["flip", at, bit] or ["cut", bytes], ...]. Prints an outcome a line."""
    store, folder, file = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    expected = json.loads((folder / "expected.json").read_text())
    importlib.import_module("faiss")  # once, and not in every fork
    logging.disable()
    for place, damage in enumerate(json.loads(Path(sys.argv[4]).read_text())):
        damaged = copy_of(store, folder / "damaged")
        if damage[0] == "flip":
            flip(damaged / file, damage[1], damage[2])
        else:
            os.truncate(damaged / file, damage[1])
        said = in_child(
            functools.partial(judged, damaged, expected, killed=place % 2 == 0),
            alone=place % 10 != 0,
        )
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
