"""What readers see of another process's writes, and of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from other_processes import assert_whole, hear, other_process, tell
from stored_images import assert_same_image, record, spec, unit_vectors

from regionsearch.collection import DataDirectory
from regionsearch.errors import CollectionNotFound

WRITER = """
with DataDirectory(path, 'write') as directory:
    collection = directory.create_collection(spec())
    say('open')
    while line := ask():
        command, *ids = line.split()
        if command == 'upsert':
            collection.upsert([record(random, each, entities=3) for each in ids])
        elif command == 'delete':
            collection.delete(ids)
        elif command == 'drop':
            directory.drop_collection('photos')
        say(f'{command} done')
"""


def test_a_reader_sees_what_another_process_has_committed(tmp_path: Path) -> None:
    with other_process(WRITER, tmp_path / "data") as writer:
        assert hear(writer) == "open"
        with DataDirectory(tmp_path / "data", "read") as directory:
            collection = directory.collection("photos")
            assert_whole(collection, [])
            for command, ids in [
                ("upsert a b c d e", ["a", "b", "c", "d", "e"]),
                ("upsert f", ["a", "b", "c", "d", "e", "f"]),
                ("upsert b f", ["a", "b", "c", "d", "e", "f"]),  # replaced
                ("delete a e", ["b", "c", "d", "f"]),
                ("upsert a b", ["a", "b", "c", "d", "f"]),
                ("delete f", ["a", "b", "c", "d"]),
                ("upsert f", ["a", "b", "c", "d", "f"]),
            ]:
                generation = collection.stats.generation
                assert tell(writer, command) == command.split()[0] + " done"
                assert collection.stats.generation > generation
                assert_whole(collection, ids)
            assert tell(writer, "drop") == "drop done"
            with pytest.raises(CollectionNotFound):
                collection.search(unit_vectors(np.random.default_rng(0), 1)[0], 1)
            with pytest.raises(CollectionNotFound, match="there are: none"):
                directory.collection("photos")


def test_a_reader_beside_the_writer_of_its_own_process_sees_its_writes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with DataDirectory(tmp_path / "data", "write") as writing:
        written = writing.create_collection(spec())
        with DataDirectory(tmp_path / "data", "read") as reading:
            read = reading.collection("photos")
            given = [record(random, image_id, entities=3) for image_id in "abc"]
            written.upsert(given)
            assert_whole(read, ["a", "b", "c"])
            written.delete(["a"])
            written.upsert([record(random, "c", entities=3)])
            assert_whole(read, ["b", "c"])
        assert_whole(written, ["b", "c"])  # closing one leaves the other open
        assert_same_image(written.get("b"), given[1])
