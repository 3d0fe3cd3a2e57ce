"""Engines that decode ahead of the models give the records that plain indexing gives."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import PIL.Image
import PIL.ImageDraw
import pytest

from indexer.engines import IndexingEngine, InProcess, PipelineSettings, Prefetching, device_processes
from regionsearch.collection import ImageRecord
from regionsearch.config import Limits
from regionsearch.errors import ModelNotFound
from regionsearch.ingest import EncodedImage
from regionsearch.models.registry import ModelRegistry

MODELS = ModelRegistry()
SETTINGS = PipelineSettings("dummy", "dummy", "none", 32, Limits())


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


def test_closing_drops_what_has_not_begun() -> None:
    engine = in_this_process()
    running = [engine.submit([photo(number)]) for number in range(40)]
    engine.close()
    assert all(future.cancelled() or future.result().records for future in running)


def test_an_error_of_a_model_reaches_whoever_waits() -> None:
    wrong = PipelineSettings("dummy", "nobody", "none", 32, Limits())
    with pytest.raises(ModelNotFound, match="nobody"):
        Prefetching.in_this_process(wrong, MODELS)
