"""An indexing run over a folder, with the weightless models."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import pytest

from indexer import IndexJob, IndexReport
from indexer.engines import InProcess, PipelineSettings, Processes
from indexer.sources import SourceImage, scan_folder
from regionsearch.collection import Collection, DataDirectory
from regionsearch.config import Limits
from regionsearch.ingest import collection_spec
from regionsearch.models.registry import ModelRegistry

MODELS = ModelRegistry()
SETTINGS = PipelineSettings("dummy", "dummy", "none", 32, Limits())
COLOURS = ("red", "green", "blue", "yellow", "black", "orange", "purple", "cyan", "gray", "brown")


class Counted:
    def __init__(self) -> None:
        self.images = 0

    def advance(self, images: int) -> None:
        self.images += images


def write_photo(path: Path, number: int) -> None:
    image = PIL.Image.new("RGB", (48, 48), "white")
    place = 4 + number % 20
    PIL.ImageDraw.Draw(image).rectangle((place, 8, place + 15, 30), fill=COLOURS[number % len(COLOURS)])
    coded = io.BytesIO()
    image.save(coded, "PNG")
    path.write_bytes(coded.getvalue())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        write_photo(folder / f"{number:02}.png", number)
    return folder


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    spec = collection_spec("c", MODELS.embedder("dummy"), MODELS.segmenter("dummy"), pixels="none")
    with DataDirectory(tmp_path / "data", "write") as directory:
        yield directory.create_collection(spec)


def index(collection: Collection, photos: Path) -> IndexReport:
    progress = Counted()
    job = IndexJob(collection, InProcess(SETTINGS, MODELS), progress)
    images = scan_folder(photos).images
    report = job.run(images)
    assert progress.images == len(images)
    assert report.images + report.skipped + len(report.failed) == len(images)
    return report


def test_a_second_run_skips_all_and_a_changed_photo_is_indexed_again(
    collection: Collection, photos: Path
) -> None:
    assert index(collection, photos).images == 20
    assert collection.stats.images == 20
    assert index(collection, photos).skipped == 20
    before = collection.get("03.png").version
    write_photo(photos / "03.png", 19)
    (photos / "03.png").write_bytes((photos / "03.png").read_bytes() + b" ")
    report = index(collection, photos)
    assert (report.images, report.skipped) == (1, 19)
    assert collection.get("03.png").version == before + 1


def test_failures_are_recorded_with_reasons_and_the_rest_goes_on(
    collection: Collection, photos: Path
) -> None:
    (photos / "05.png").write_bytes(b"not a picture")
    (photos / "06.png").write_bytes((photos / "06.png").read_bytes()[:50])
    (photos / "07.png").unlink()
    (photos / "07.png").symlink_to(photos / "nowhere")
    report = index(collection, photos)
    assert sorted(failure.source for failure in report.failed) == ["05.png", "06.png", "07.png"]
    assert all(failure.reason for failure in report.failed)
    assert report.images == 17


def test_a_pipe_with_the_name_of_a_photo_is_a_failure_and_not_waited_for(
    collection: Collection, photos: Path
) -> None:
    os.mkfifo(photos / "pipe.jpg")
    reports: list[IndexReport] = []
    run = threading.Thread(target=lambda: reports.append(index(collection, photos)), daemon=True)
    run.start()
    run.join(60)
    (report,) = reports
    (failure,) = report.failed
    assert failure.source == "pipe.jpg"
    assert "not a regular file" in failure.reason
    assert report.images == 20


def test_equal_files_are_computed_once(collection: Collection, photos: Path) -> None:
    for number in range(3):
        (photos / f"copy{number}.png").write_bytes((photos / "00.png").read_bytes())
    (photos / "bad1.png").write_bytes(b"broken")
    (photos / "bad2.png").write_bytes(b"broken")
    report = index(collection, photos)
    assert (report.images, report.copied, len(report.failed)) == (23, 3, 2)
    assert (collection.get("copy2.png").vectors == collection.get("00.png").vectors).all()


def test_a_damaged_image_is_mended_by_the_next_run(tmp_path: Path, photos: Path) -> None:
    (photos / "twin.png").write_bytes((photos / "03.png").read_bytes())
    spec = collection_spec("c", MODELS.embedder("dummy"), MODELS.segmenter("dummy"), pixels="none")
    with DataDirectory(tmp_path / "damaged", "write") as directory:
        collection = directory.create_collection(spec)
        index(collection, photos)
        vectors = collection.get("03.png").vectors
    catalog = tmp_path / "damaged" / "catalog" / "data.mdb"
    stored = catalog.read_bytes().replace(vectors.tobytes(), (vectors + 1).tobytes())
    catalog.write_bytes(stored)
    with DataDirectory(tmp_path / "damaged", "write") as directory:
        collection = directory.collection("c")
        listings, _ = collection.list()
        damaged = [
            each.image_id for each in listings if not collection.is_stored(each.image_id, each.content_hash)
        ]
        assert {"03.png", "twin.png"} <= set(damaged)
        report = index(collection, photos)
        assert (report.images, report.skipped, report.failed) == (len(damaged), 21 - len(damaged), [])
        for image_id in damaged:
            assert (collection.get(image_id).vectors == vectors).all()


def test_several_processes_store_what_one_does(tmp_path: Path, collection: Collection, photos: Path) -> None:
    index(collection, photos)
    engine = Processes(SETTINGS, workers=2)
    try:
        with DataDirectory(tmp_path / "other", "write") as directory:
            twin = directory.create_collection(collection.spec)
            report = IndexJob(twin, engine, Counted()).run(scan_folder(photos).images)
            assert report.images == 20
            assert report.load_seconds > 0
            for image_id in collection.image_ids():
                ours, theirs = collection.get(image_id), twin.get(image_id)
                assert (ours.vectors == theirs.vectors).all()
                assert ours.entities.masks == theirs.entities.masks
    finally:
        engine.close()


def test_an_interrupted_run_keeps_what_it_has_and_the_next_one_finishes(
    collection: Collection, photos: Path
) -> None:
    stop = threading.Event()

    def interrupted() -> Iterator[SourceImage]:
        for place, image in enumerate(scan_folder(photos).images):
            if place == 13:
                stop.set()
            yield image

    job = IndexJob(collection, InProcess(SETTINGS, MODELS), Counted())
    report = job.run(interrupted(), stop)
    assert report.stopped
    assert 8 <= report.images <= 13
    assert collection.stats.images == report.images
    again = index(collection, photos)
    assert again.skipped == report.images
    assert collection.stats.images == 20
