"""What an indexing run does to the payloads of images, with the weightless models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import PIL.Image
import pytest

from indexer import IndexJob, IndexReport
from indexer.engines import InProcess, PipelineSettings
from indexer.payloads import Payloads, read_payloads
from indexer.sources import scan_folder
from regionsearch.collection import Collection, DataDirectory
from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest
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


def index_with(collection: Collection, photos: Path, payloads: Payloads) -> IndexReport:
    job = IndexJob(collection, InProcess(SETTINGS, MODELS), Uncounted(), payloads=payloads)
    return job.run(scan_folder(photos).images)


def test_payloads_come_with_the_photos_and_change_without_computing_them_again(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos")
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = made(directory)
        given = {"red.png": {"year": 2020}, "green.png": {"seen": 1}}
        report = index_with(collection, photos, given)
        assert (report.images, report.payloads_updated) == (3, 0)
        assert {each: collection.get(each).payload for each in IDS} == {"blue.png": {}, **given}
        numbers = {each: collection.get(each).number for each in IDS}

        report = index_with(collection, photos, {"red.png": {"year": 2020}, "green.png": {"seen": True}})
        assert (report.images, report.skipped, report.payloads_updated) == (0, 3, 1)
        assert collection.get("green.png").payload["seen"] is True
        assert collection.count("payload.year = 2020").images == 1
        assert {each: collection.get(each).number for each in IDS} == numbers

        touch(photos / "red.png")
        report = index_with(collection, photos, {"red.png": {"year": 2021}, "green.png": {}})
        assert (report.images, report.payloads_updated) == (1, 1)
        assert (collection.get("red.png").payload, collection.get("green.png").payload) == (
            {"year": 2021},
            {},
        )
    with DataDirectory(tmp_path / "data", "read") as directory:
        assert directory.collection("c").get("green.png").payload == {}


BY_ID = {"2024/a.jpg": {"year": 2024, "said": "line\u2028line"}, "b.jpg": {}}
LINES = "\n".join(
    json.dumps({"image_id": each, "payload": payload}, ensure_ascii=False) for each, payload in BY_ID.items()
)


@pytest.mark.parametrize(
    "text",
    [json.dumps(BY_ID), json.dumps(BY_ID, indent=1), LINES, f"\ufeff\n{LINES}\r\n\n"],
    ids=["object in a line", "object", "lines", "lines of another editor"],
)
def test_payloads_are_lines_or_one_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "payloads").write_text(text, encoding="utf-8", newline="")
    assert read_payloads(tmp_path / "payloads") == BY_ID


def test_a_single_line_of_one_image_is_no_object_by_id(tmp_path: Path) -> None:
    (tmp_path / "payloads").write_text('{"image_id": "a", "payload": {"n": 1}}')
    assert read_payloads(tmp_path / "payloads") == {"a": {"n": 1}}


GOOD = '{"image_id": "a", "payload": {}}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{GOOD}\n\n{{nonsense", "line 3 is not JSON"),
        (f'{GOOD}\n{{"image_id": "b"}}', "line 2 is not"),
        (f'{GOOD}\n{{"image_id": "b", "payload": [1]}}', "line 2 cannot be stored"),
        (f'{GOOD}\n{{"image_id": "b", "payload": {{"n": NaN}}}}', "line 2 is not JSON: JSON has no NaN"),
        (f"{GOOD}\n{GOOD}", "line 2 names image 'a' a second time"),
        ('{\n "a": {},\n "b": oops\n}', "line 3 is not JSON"),
        ('{"a": 1}', "id 'a' cannot be stored"),
        ('{"a": {}', "line 1 is not JSON"),
        ("[1, 2]", "is a JSON list"),
    ],
)
def test_payloads_that_cannot_be_read_are_named_by_their_place(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "payloads").write_text(text)
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        read_payloads(tmp_path / "payloads")
