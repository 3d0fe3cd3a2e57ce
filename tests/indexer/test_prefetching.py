"""Engines that decode ahead of the models give the records that plain indexing gives."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import pytest

from indexer import IndexJob, IndexReport
from indexer.engines import (
    BatchResult,
    IndexingEngine,
    InProcess,
    PipelineSettings,
    Prefetching,
    device_processes,
)
from indexer.engines.prefetching import BATCH_IMAGES_ON_CPU, ComputedBatch
from indexer.sources import scan_folder
from regionsearch.collection import DataDirectory, ImageRecord
from regionsearch.config import Limits
from regionsearch.errors import ModelNotFound
from regionsearch.ingest import DecodedBatch, EncodedImage, collection_spec
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime

MODELS = ModelRegistry()
SETTINGS = PipelineSettings("dummy", "dummy", "none", 32, Limits())


class NoProgress:
    def advance(self, images: int) -> None:
        """Nobody looks."""


def photo(number: int) -> EncodedImage:
    image = PIL.Image.new("RGB", (60, 50), "white")
    PIL.ImageDraw.Draw(image).rectangle((2 + number, 5, 20 + number, 30), fill=("red", "blue")[number % 2])
    coded = io.BytesIO()
    image.save(coded, "PNG")
    return EncodedImage(f"{number:02}", coded.getvalue())


def in_this_process() -> Prefetching:
    return Prefetching.in_this_process(SETTINGS, MODELS)


def on_two_devices() -> Prefetching:
    return device_processes(SETTINGS, ["cpu", "cpu"])


def as_values(record: ImageRecord) -> tuple[object, ...]:
    return (record.image_id, record.vectors.tobytes(), record.entities.masks)


def indexed(engine: IndexingEngine, batches: Sequence[Sequence[EncodedImage]]) -> list[tuple[object, ...]]:
    running = [engine.submit(batch) for batch in batches]
    return [as_values(record) for future in running for record in future.result().records]


@pytest.mark.parametrize("make", [in_this_process, on_two_devices])
def test_decoding_ahead_changes_no_record(make: Callable[[], Prefetching]) -> None:
    batches = [[photo(number) for number in range(start, start + 11)] for start in (0, 11, 22)]
    engine = make()
    try:
        assert indexed(engine, batches) == indexed(InProcess(SETTINGS, MODELS), batches)
    finally:
        engine.close()


def test_a_photo_that_cannot_be_decoded_is_reported_beside_the_good_ones() -> None:
    engine = in_this_process()
    try:
        result = engine.submit([photo(1), EncodedImage("bad", b"no picture"), photo(2)]).result()
    finally:
        engine.close()
    assert [record.image_id for record in result.records] == ["01", "02"]
    assert [failure.source for failure in result.failures] == ["bad"]
    assert result.seconds["decode"] > 0
    assert result.seconds["embed"] > 0


@dataclass
class Held:
    """An engine whose only computer waits until it is told to go on."""

    engine: Prefetching
    computing: threading.Event
    go_on: threading.Event
    computed: list[int]


@pytest.fixture
def held() -> Iterator[Held]:
    computing, go_on = threading.Event(), threading.Event()
    computed: list[int] = []

    def compute(batch: DecodedBatch) -> ComputedBatch:
        computing.set()
        assert go_on.wait(30)
        computed.append(len(batch.images))
        return ComputedBatch([], {})

    engine = Prefetching(SETTINGS, 1, lambda: ThreadPoolExecutor(1), compute, turns=1)
    yield Held(engine, computing, go_on, computed)
    go_on.set()
    engine.close()


def test_closing_drops_what_has_not_begun(held: Held) -> None:
    running = [held.engine.submit([photo(number) for number in range(9)]) for _ in range(10)]
    assert held.computing.wait(30)
    closing = threading.Thread(target=held.engine.close)
    closing.start()
    held.go_on.set()
    closing.join(30)
    # The first batch of the nine photos that were begun, and perhaps one that was on its way.
    assert len(held.computed) <= 2
    assert all(future.done() for future in running)
    assert sum(future.cancelled() for future in running) >= 8


def test_what_is_decoded_can_be_cancelled_until_it_is_computed(held: Held) -> None:
    first, second = held.engine.submit([photo(1)]), held.engine.submit([photo(2)])
    assert held.computing.wait(30)
    # The decoding threads decide which of the two comes first.
    assert sorted([first.cancel(), second.cancel()]) == [False, True]
    held.go_on.set()
    assert (second if first.cancelled() else first).result(30).records == []
    held.engine.close()
    assert held.computed == [1]


def test_a_run_that_is_stopped_begins_no_batch_after_the_one_that_is_computed(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3 * BATCH_IMAGES_ON_CPU):
        (tmp_path / f"{number:02}.png").write_bytes(photo(number).data)
    spec = collection_spec("c", MODELS.embedder("dummy"), MODELS.segmenter("dummy"), pixels="none")
    stop = threading.Event()
    reports: list[IndexReport] = []
    submit, submitted = held.engine.submit, list[Future[BatchResult]]()

    def remembered(images: Sequence[EncodedImage]) -> Future[BatchResult]:
        submitted.append(submit(images))
        return submitted[-1]

    monkeypatch.setattr(held.engine, "submit", remembered)
    with DataDirectory(tmp_path / "data", "write") as directory:
        job = IndexJob(directory.create_collection(spec), held.engine, NoProgress())
        images = scan_folder(tmp_path).images
        running = threading.Thread(target=lambda: reports.append(job.run(images, stop)))
        running.start()
        assert held.computing.wait(30)
        stop.set()
        deadline = time.monotonic() + 30
        while not any(future.cancelled() for future in submitted):
            assert time.monotonic() < deadline, "what waits is not dropped while another is computed"
            time.sleep(0.01)
        held.go_on.set()
        running.join(30)
    assert reports[0].stopped
    assert held.computed == [BATCH_IMAGES_ON_CPU]


def test_models_of_torch_on_a_cpu_get_few_photos_at_a_time(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(photo(number).data)
    spec = collection_spec("c", MODELS.embedder("dummy"), MODELS.segmenter("dummy"), pixels="none")
    sizes: list[int] = []

    def compute(batch: DecodedBatch) -> ComputedBatch:
        sizes.append(len(batch.images))
        return ComputedBatch([], {})

    on_cpu = replace(SETTINGS, runtime=Runtime(device="cpu"))
    engine = Prefetching(on_cpu, 1, lambda: ThreadPoolExecutor(1), compute, turns=1)
    try:
        with DataDirectory(tmp_path / "data", "write") as directory:
            job = IndexJob(directory.create_collection(spec), engine, NoProgress())
            job.run(scan_folder(tmp_path).images)
    finally:
        engine.close()
    # Which of the two is decoded first is not promised.
    assert sorted(sizes) == [1, 2]


@pytest.mark.parametrize("make", [in_this_process, on_two_devices])
def test_seconds_are_those_of_the_run_and_models_load_only_when_there_is_work(
    make: Callable[[], Prefetching], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.png").write_bytes(photo(number).data)
    spec = collection_spec("c", MODELS.embedder("dummy"), MODELS.segmenter("dummy"), pixels="none")
    with DataDirectory(tmp_path / "data", "write") as directory:
        collection = directory.create_collection(spec)
        for nothing_new in (False, True):
            engine = make()
            try:
                report = IndexJob(collection, engine, NoProgress()).run(
                    scan_folder(tmp_path / "photos").images
                )
            finally:
                engine.close()
            assert report.seconds > 0
            assert report.skipped == (3 if nothing_new else 0)
            assert (report.load_seconds > 0.1) == (make is on_two_devices and not nothing_new)


def test_an_error_of_a_model_reaches_whoever_waits() -> None:
    wrong = PipelineSettings("dummy", "nobody", "none", 32, Limits())
    with pytest.raises(ModelNotFound, match="nobody"):
        Prefetching.in_this_process(wrong, MODELS)
