"""What an indexing run does to the payloads of images, with the weightless models."""

from __future__ import annotations

from pathlib import Path

import PIL.Image

from indexer import IndexJob, IndexReport
from indexer.engines import InProcess, PipelineSettings
from indexer.sources import scan_folder
from regionsearch.collection import Collection, DataDirectory
from regionsearch.config import Limits
from regionsearch.ingest import collection_spec
from regionsearch.models.registry import ModelRegistry

MODELS = ModelRegistry()
SETTINGS = PipelineSettings("dummy", "dummy", "none", 32, Limits())
COLOURS = ("red", "green", "blue")
IDS = [f"{colour}.png" for colour in COLOURS]


class Uncounted:
    def advance(self, images: int) -> None:
        pass


def write_photos(folder: Path) -> Path:
    folder.mkdir()
    for colour in COLOURS:
        PIL.Image.new("RGB", (40, 30), colour).save(folder / f"{colour}.png")
    return folder


def touch(photo: Path) -> None:
    """Other bytes, the same picture."""
    photo.write_bytes(photo.read_bytes() + b" ")


def made(directory: DataDirectory) -> Collection:
    spec = collection_spec("c", MODELS.embedder("dummy"), MODELS.segmenter("dummy"), pixels="none")
    return directory.create_collection(spec)


def index(collection: Collection, photos: Path) -> IndexReport:
    return IndexJob(collection, InProcess(SETTINGS, MODELS), Uncounted()).run(scan_folder(photos).images)


def test_a_changed_photo_keeps_the_payload_that_it_was_given(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = made(directory)
        index(collection, photos)
        collection.update_payload("red.png", {"year": 2021, "tags": ["a"]})
        touch(photos / "red.png")
        (photos / "green.png").write_bytes((photos / "blue.png").read_bytes())
        collection.update_payload("green.png", {"year": 1999})
        report = index(collection, photos)
        assert (report.images, report.copied, report.payloads_lost) == (2, 1, [])
        assert collection.get("red.png").payload == {"year": 2021, "tags": ["a"]}
        assert collection.get("green.png").payload == {"year": 1999}
        assert collection.count("payload.year >= 1999").images == 2


def test_a_payload_that_a_damaged_record_cannot_give_back_is_reported(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = made(directory)
        index(collection, photos)
        for image_id in IDS:
            collection.update_payload(image_id, {"shown": f"what is in {image_id}"})
    catalog = tmp_path / "data" / "catalog" / "data.mdb"
    catalog.write_bytes(catalog.read_bytes().replace(b"what is in red.png", b"that is in red.png"))
    touch(photos / "blue.png")
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.collection("c")
        report = index(collection, photos)
        assert (report.images, report.payloads_lost) == (2, ["red.png"])
        assert collection.get("red.png").payload == {}
        assert collection.get("blue.png").payload == {"shown": "what is in blue.png"}
