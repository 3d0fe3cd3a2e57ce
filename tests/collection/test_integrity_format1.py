"""A store of format 1, kept for ever, is brought to this format, whenever that is cut short."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_images import record

from regionsearch.collection import Collection, DataDirectory, steps
from regionsearch.collection.integrity import examination, migration, verify
from regionsearch.errors import UnsupportedFormat

KEPT = Path(__file__).parents[1] / "data" / "format1"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with tarfile.open(KEPT / "store.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "store"


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    values: dict[str, Any] = json.loads((KEPT / "expected.json").read_text("utf-8"))
    return values


def assert_as_expected(directory: DataDirectory, expected: dict[str, Any]) -> None:
    assert directory.collection_names() == sorted(expected)
    for name, of_collection in expected.items():
        collection = directory.collection(name)
        stats = collection.stats
        for what, value in of_collection["stats"].items():
            assert getattr(stats, what) == value, what
        assert collection.spec.pixels == of_collection["pixels"]
        assert collection.spec.entity_limit == of_collection["entity_limit"]
        probe = collection.spec.probe
        assert (None if probe is None else probe.tolist()) == of_collection["probe"]
        assert collection.background() == of_collection["background"]
        assert list(collection.image_ids()) == [image["image_id"] for image in of_collection["images"]]
        for image in of_collection["images"]:
            assert_image_as_expected(collection, image)
        for search in of_collection["searches"]:
            query = np.array(search["query"], np.float32)
            found, of_images = collection.search(query, 7), collection.search_images(query, 4)
            assert [found.numbers.tolist(), found.ordinals.tolist()] == search["entities"][:2]
            np.testing.assert_allclose(found.similarities, search["entities"][2], atol=1e-6)
            assert of_images.numbers.tolist() == search["images"][0]
            np.testing.assert_allclose(of_images.similarities, search["images"][1], atol=1e-6)


def assert_image_as_expected(collection: Collection, expected: dict[str, Any]) -> None:
    stored = collection.get(expected["image_id"], pixels=True)
    entities = stored.entities
    found = {
        "image_id": stored.image_id,
        "number": stored.number,
        "version": stored.version,
        "updated": stored.updated,
        "size": [stored.width, stored.height],
        "content_hash": stored.content_hash,
        "payload": stored.payload,
        "pixels": None if stored.pixels is None else hashlib.sha256(stored.pixels).hexdigest(),
        "vectors": hashlib.sha256(stored.vectors.astype("<f4").tobytes()).hexdigest(),
        "boxes": entities.boxes.tolist(),
        "areas": entities.areas.tolist(),
        "objectness": entities.objectness.tolist(),
        "labels": list(entities.labels),
        "label_sources": list(entities.label_sources),
        "masks": [mask.to_coco() for mask in entities.masks],
    }
    assert found == expected


def test_a_store_of_format_1_answers_as_it_did(store: Path, expected: dict[str, Any]) -> None:
    with DataDirectory(store, "write") as directory:
        assert_as_expected(directory, expected)
        photos = directory.collection("photos")
        photos.upsert([record(np.random.default_rng(0), "new", dimension=16)])
        assert photos.stats.images == expected["photos"]["stats"]["images"] + 1
        photos.delete(["new"])
    with DataDirectory(store, "read") as directory:
        for name, of_collection in expected.items():
            assert directory.collection(name).stats.images == of_collection["stats"]["images"]
    assert verify(store).problems == ()


def test_a_store_of_format_1_is_not_read_but_told_what_to_do(store: Path) -> None:
    with pytest.raises(UnsupportedFormat, match=r"has format 1; .*open it for writing once"):
        DataDirectory(store, "read")
    report = verify(store)
    assert [(problem.where, problem.repair) for problem in report.problems] == [("catalog", "repair")]


def test_a_format_of_the_future_is_refused(store: Path) -> None:
    marker = store / "regionsearch.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"format": 3}))
    for mode in ("read", "write"):
        with pytest.raises(UnsupportedFormat, match="format 3; this version reads format 2"):
            DataDirectory(store, mode)  # type: ignore[arg-type]


class Cut(BaseException):
    pass


def no_process(words: list[str], **options: Any) -> Any:
    raise OSError("no process to be had")


@pytest.mark.parametrize("piece_rows", [7, 2_000])
def test_a_migration_that_is_cut_short_again_and_again_goes_on(
    store: Path, expected: dict[str, Any], piece_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "_PIECE_ROWS", piece_rows)
    monkeypatch.setattr(examination, "_start", no_process)  # each open examines what the one before left
    cuts = 0

    def cut(step: str) -> None:
        if step.startswith("migrate: "):
            raise Cut(step)

    while True:
        steps.observe(cut)
        try:
            DataDirectory(store, "write").close()
            break
        except Cut as error:
            cuts += 1
            if str(error) != "migrate: marked":
                with pytest.raises(UnsupportedFormat):
                    DataDirectory(store, "read")
        finally:
            steps.observe(None)
    assert cuts > (10 if piece_rows == 7 else 1)
    with DataDirectory(store, "write") as directory:
        assert_as_expected(directory, expected)
    assert verify(store).ok


def test_damaged_images_of_format_1_stay_damaged_and_the_others_move(
    store: Path, expected: dict[str, Any]
) -> None:
    data = store / "catalog" / "data.mdb"
    raw = bytearray(data.read_bytes())
    record_at = raw.index(b"a/b.jpg", raw.index(b"RSR1"))
    raw[record_at] ^= 1
    pixels_at = raw.index(b"picture of \xc3\xbc.png")
    raw[pixels_at] ^= 1
    data.write_bytes(raw)
    with DataDirectory(store, "write") as directory:
        plain = {"plain": expected["plain"]}
        assert directory.collection("plain").stats.images == plain["plain"]["stats"]["images"]
    assert [(problem.where[:15].rstrip("'"), problem.repair) for problem in verify(store).problems] == [
        ("image 'a/b.jpg", "drop"),
        ("'pixels', row 0", "drop"),
    ]
