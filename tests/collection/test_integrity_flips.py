"""A flipped bit or a cut file gives the same answers or a reported error: never others, a crash or a hang."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from damaged_stores import answers, make_store

from regionsearch.collection import DataDirectory
from regionsearch.collection.integrity import verify

HERE = Path(__file__).parent
PAGE = 4_096
META = 152
"""Bytes of a meta page that mean something."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what it answers beside it, in expected.json."""
    folder = tmp_path_factory.mktemp("flips")
    make_store(folder / "store")
    raised: list[str] = []
    with DataDirectory(folder / "store", "read") as directory:
        expected = answers(directory, raised=raised)
    assert raised == []
    assert verify(folder / "store").ok
    (folder / "expected.json").write_text(json.dumps(expected))
    return folder / "store"


def outcomes(store: Path, file: str, damages: list[list[Any]]) -> list[str]:
    """Of each damage by itself, each in a process of its own."""
    listed = store.parent / "damages.json"
    listed.write_text(json.dumps(damages))
    words = [
        sys.executable,
        str(HERE / "damaged_stores.py"),
        str(store),
        str(store.parent),
        file,
        str(listed),
    ]
    run = subprocess.run(
        words,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2_000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


def assert_never_silent(store: Path, file: str, damages: list[list[Any]]) -> Counter[str]:
    found = outcomes(store, file, damages)
    assert len(found) == len(damages)
    wrong = [
        (damage, outcome)
        for damage, outcome in zip(damages, found, strict=True)
        if outcome not in ("same", "reported")
    ]
    assert wrong == []
    print(Counter(found))
    return Counter(found)


def flips_of_catalog(store: Path, count: int, seed: int) -> list[list[Any]]:
    """A fifth each in the meta pages and in the heads of pages, where a bit does most; the rest anywhere."""
    chance = random.Random(seed)
    size = (store / "catalog" / "data.mdb").stat().st_size
    damages = []
    for place in range(count):
        if place % 5 == 0:
            at = chance.randrange(2) * PAGE + chance.randrange(META)
        elif place % 5 == 1:
            at = chance.randrange(size // PAGE) * PAGE + chance.randrange(64)
        else:
            at = chance.randrange(size)
        damages.append(["flip", at, chance.randrange(8)])
    return damages


def test_a_flipped_bit_of_the_catalog_is_never_silent(store: Path, request: pytest.FixtureRequest) -> None:
    given: int | None = request.config.getoption("--flips")
    flips = given or (300 if request.config.getoption("--slow") else 30)
    found = assert_never_silent(store, "catalog/data.mdb", flips_of_catalog(store, flips, seed=1))
    assert found["reported"] > flips // 6


def test_a_cut_catalog_is_never_silent(store: Path) -> None:
    size = (store / "catalog" / "data.mdb").stat().st_size
    cuts = [0, 1, PAGE, 2 * PAGE, 2 * PAGE + 17, size // 2, size - PAGE, size - 1]
    assert_never_silent(store, "catalog/data.mdb", [["cut", length] for length in cuts])


@pytest.mark.parametrize("file", ["regionsearch.json", "regionsearch.stopped"])
def test_damaged_notes_beside_the_catalog_are_never_silent(store: Path, file: str) -> None:
    size = (store / file).stat().st_size
    chance = random.Random(4)
    flips = [["flip", chance.randrange(size), chance.randrange(8)] for _ in range(4)]
    assert_never_silent(store, file, [*flips, ["cut", 0], ["cut", size // 2]])
