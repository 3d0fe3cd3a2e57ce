"""What readers say they saw while images were written, and whether that was right.

A reader beside the writer's threads and one in another process look for images all the time and say

    is IMAGE MARK TOUCHED @FROM TO      what its record was (-1 -1: there was none)
    found IMAGE MARK yes|no @FROM TO    whether a search for that write's own vector finds it
    wrong WHAT                          what must never be

with the times (`time.monotonic`, the same clock in all processes) between which they looked. Writes say
when they begin and when they are acknowledged. So each sighting has an answer that may be checked when all
is over: what was acknowledged before is seen, what had not begun is not.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from marked_images import GONE, State, marked_record, state_of

from regionsearch.collection import Collection, DataDirectory
from regionsearch.errors import DataLoss, ImageNotFound

_SECONDS_BETWEEN_LOOKS = 0.001
"""So that a reader does not take the interpreter from those who write."""
_SAME = 1 - 1e-5
Say = Callable[[str], None]


def look_for_ever(collection: Collection, image_ids: Sequence[str], say: Say) -> None:
    """Of each image: what it is, and whether the writes that were met of it before are found."""
    random = np.random.default_rng()
    marks: dict[str, int] = {}
    while True:
        image_id = image_ids[random.integers(len(image_ids))]
        try:
            since = time.monotonic()
            mark, touched = _state(collection, image_id)
            say(f"is {image_id} {mark} {touched} @{since:.6f} {time.monotonic():.6f}")
            if image_id in marks:
                _search(collection, image_id, marks[image_id], say)
            if mark >= 0:
                marks[image_id] = mark
        except Exception as error:
            say(f"wrong {type(error).__name__}: {' '.join(str(error).split())}")
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def read_for_ever(path: Path, image_ids: Sequence[str], lines: Path) -> None:
    """As a process of its own, beside the writer's."""
    descriptor = os.open(lines, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(line: str) -> None:
        os.write(descriptor, (line + "\n").encode())

    try:
        directory = DataDirectory(path, "read")
    except DataLoss as error:
        if "was cut" not in error.message:  # as a writer leaves it that is killed in the middle of a commit
            say(f"wrong {error.message}")
        return
    look_for_ever(directory.collection("photos"), image_ids, say)


def _state(collection: Collection, image_id: str) -> State:
    try:
        return state_of(collection, image_id)
    except ImageNotFound:  # deleted between the two looks of state_of
        return GONE


def _search(collection: Collection, image_id: str, mark: int, say: Say) -> None:
    vectors = marked_record(image_id, mark).vectors
    since = time.monotonic()
    images = collection.search_images(vectors[0], 1_000)
    rows = collection.search(vectors[1], 1_000)
    until = time.monotonic()
    if len(set(images.numbers.tolist())) < len(images.numbers):
        say("wrong an image is found twice")
    if len(set(zip(rows.numbers.tolist(), rows.ordinals.tolist(), strict=True))) < len(rows.numbers):
        say("wrong an entity is found twice")
    for found in (images, rows):
        seen = "yes" if len(found.similarities) and found.similarities[0] > _SAME else "no"
        say(f"found {image_id} {mark} {seen} @{since:.6f} {until:.6f}")


def check_sightings(before: Mapping[str, State], said: Iterable[str], sightings: Iterable[str]) -> int:
    """before: what images were when the writer began, others were not there. said: its lines. Returns how
    many sightings there were. Raises AssertionError: one of them was of what was not so."""
    writes = _writes(before, said)
    count = 0
    for line in sightings:
        what, _, times = line.partition(" @")
        kind, *values = what.split()
        assert kind != "wrong", line
        if kind not in ("is", "found"):
            continue
        since, until = map(float, times.split())
        possible = _possible(writes[values[0]], since, until)
        if kind == "is":
            assert (int(values[1]), int(values[2])) in possible, (line, possible)
        else:
            # An image that is written again with the same payload mark is the same write.
            sights = {"yes" if state[0] == int(values[1]) else "no" for state in possible}
            assert values[2] in sights, (line, possible)
        count += 1
    return count


def _writes(before: Mapping[str, State], said: Iterable[str]) -> dict[str, list[tuple[float, float, State]]]:
    """Of each image, in their order: when it began, when it was acknowledged (or never), what it made."""
    writes: dict[str, list[tuple[float, float, State]]] = defaultdict(lambda: [(0.0, 0.0, GONE)])
    for image_id, state in before.items():
        writes[image_id] = [(0.0, 0.0, state)]
    for line in said:
        kind, name, *values = line.split()
        if kind not in ("begin", "done") or len(values) != 3:
            continue
        state = int(values[0]), int(values[1])
        when = float(values[2].removeprefix("@"))
        if kind == "begin":
            writes[name].append((when, float("inf"), state))
        else:
            assert writes[name][-1][2] == state
            writes[name][-1] = (writes[name][-1][0], when, state)
    return writes


def _possible(writes: list[tuple[float, float, State]], since: float, until: float) -> set[State]:
    last = max(place for place, (_, done, _) in enumerate(writes) if done <= since)
    return {state for begun, _, state in writes[last:] if begun <= until}
