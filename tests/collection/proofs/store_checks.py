"""What must be so in a store after a crash, whatever the moment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ledger import Ledger
from marked_images import GONE, State, marked_record, state_of
from writer_under_load import SMALL, WRITERS, image_ids

from regionsearch.collection import Collection, DataDirectory
from regionsearch.collection.integrity import verify
from regionsearch.errors import CollectionNotFound


def check_after_crash(path: Path, ledger: Ledger) -> None:
    """Opens the store as the next writer would, and settles in the ledger what was found.

    Raises AssertionError: an acknowledged write is lost, a call landed by half, an image is a mixture of two
    writes, an arm finds what is gone or misses what is there, or `verify` has something to say."""
    with DataDirectory(path, "write", upkeep=SMALL) as directory:
        try:
            photos = directory.collection("photos")
        except CollectionNotFound:
            assert not ledger.done, "the whole collection is lost"
            return
        states = {image_id: state_of(photos, image_id) for image_id in image_ids()}
        for image_id, state in states.items():
            assert state in ledger.allowed(image_id), (
                f"{image_id} is {state}, which none of {ledger.allowed(image_id)} is"
            )
        check_cut_calls(states, ledger)
        for image_id, state in states.items():
            ledger.settle(image_id, state)
        check_collection(photos)
        check_alias(directory, ledger)
        for name in directory.collection_names():
            check_collection(directory.collection(name))
    report = verify(path)
    assert report.ok, report.problems


def check_cut_calls(states: Mapping[str, State], ledger: Ledger) -> None:
    """What a writer had begun and was not acknowledged is one call: all of it has landed, or nothing."""
    for writer in range(WRITERS):
        cut = {
            image_id: state
            for image_id, state in ledger.begun.items()
            if image_id.startswith(f"{writer}-") and state != ledger.done.get(image_id, GONE)
        }
        landed = {image_id for image_id, state in cut.items() if states[image_id] == state}
        assert landed in (set(), set(cut)), f"half of a call landed: {landed} of {sorted(cut)}"


def check_collection(collection: Collection) -> None:
    """Listing, counters, both arms, the columns and what is known of contents agree with the records."""
    ids = list(collection.image_ids())
    records = {image_id: collection.get(image_id) for image_id in ids}
    stats = collection.stats
    assert stats.images == len(records)
    assert stats.entities == sum(len(each.entities) for each in records.values())
    everything = len(records) * 4 + 10
    probe = marked_record("probe", 3).vectors[0]
    found = collection.search_images(probe, everything)
    assert sorted(found.numbers.tolist()) == sorted(each.number for each in records.values())
    rows = collection.search(probe, everything)
    assert sorted(zip(rows.numbers.tolist(), rows.ordinals.tolist(), strict=True)) == sorted(
        (each.number, ordinal) for each in records.values() for ordinal in range(len(each.entities))
    )
    for each in records.values():
        same = collection.find_content(each.content_hash)
        assert same is not None
        assert same.payload["mark"] == each.payload["mark"]
    for each in list(records.values())[:6]:
        own = collection.search(each.vectors[1], 1)
        np.testing.assert_allclose(own.similarities[0], 1, atol=1e-5)
        touched = each.payload["touched"]
        assert collection.count(f"payload.touched = {touched}").images == sum(
            other.payload["touched"] == touched for other in records.values()
        )


def check_alias(directory: DataDirectory, ledger: Ledger) -> None:
    now = directory.aliases().get("newest", "none")
    assert now in ledger.allowed_other("alias", "none")
    if now != "none":
        ledger.other_done["alias"] = now
        assert directory.collection("newest").spec.name == now
    ledger.other_begun.pop("alias", None)
    names = directory.collection_names()
    for key in ledger.other_done:
        if key.startswith("dropped:"):
            assert key.partition(":")[2] not in names, "a dropped collection is back"
