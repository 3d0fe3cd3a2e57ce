"""With faiss-gpu and a device the work goes there; FAISS's GPU functions alone are stood in for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from array_source import ArraySource, Heard

from regionsearch.collection.records import IndexWish
from regionsearch.collection.segments import building, gpu
from regionsearch.collection.segments.approximate import ApproximateIndex
from regionsearch.collection.segments.index_kinds import kind_for
from regionsearch.evaluation.vector_generator import easy_vectors, queries, rows


class Device:
    """Counts what is moved; an index "there" is a copy here."""

    def __init__(self) -> None:
        self.moved: list[str] = []
        self.returned: list[str] = []

    def to_gpu(self, resources: Any, device: int, index: Any) -> Any:
        assert (resources, device) == ("resources", 0)
        self.moved.append(type(index).__name__)
        return faiss.clone_index(index)

    def to_cpu(self, index: Any) -> Any:
        self.returned.append(type(index).__name__)
        return faiss.clone_index(index)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    standing_in = Device()
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: "resources", raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", standing_in.to_gpu, raising=False)
    monkeypatch.setattr(faiss, "index_gpu_to_cpu", standing_in.to_cpu, raising=False)
    gpu._resources.cache_clear()
    return standing_in


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr("regionsearch.collection.segments.index_kinds.FLAT_ROWS", 1_000)
    return np.concatenate(list(rows(easy_vectors(128), 2_000)))


def test_the_setting_takes_building_and_searching_to_the_gpu(
    device: Device, vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = building.build_index(tmp_path / "cpu", ArraySource(vectors), IndexWish(favour="speed"), Heard())
    assert device.moved == []
    monkeypatch.setenv(gpu.SETTING, "1")
    built = building.build_index(tmp_path / "gpu", ArraySource(vectors), IndexWish(favour="speed"), Heard())
    assert built.kind == plain.kind == "ivf-sq8"
    assert set(device.moved) == {"IndexFlatIP", "IndexIVFScalarQuantizer"}
    assert device.returned == ["IndexIVFScalarQuantizer"]

    device.moved.clear()
    there = ApproximateIndex.open(tmp_path / "gpu", built.parameters)
    assert device.moved == ["IndexIVFScalarQuantizer"]
    here = ApproximateIndex.open(tmp_path / "gpu", built.parameters, gpu=False)
    everything = np.packbits(np.ones(2_000, bool), bitorder="little")
    for query in queries(easy_vectors(128), 10):
        expected = here.search(query, 10)[0]
        np.testing.assert_array_equal(there.search(query, 10)[0], expected)
        np.testing.assert_array_equal(there.search(query, 10, allowed=everything)[0], expected)


def test_on_a_gpu_a_segment_gets_a_kind_that_faiss_has_there(
    device: Device, vectors: np.ndarray, tmp_path: Path
) -> None:
    built = building.build_index(
        tmp_path / "gpu", ArraySource(vectors), IndexWish(favour="memory"), Heard(), gpu=True
    )
    assert built.kind == "ivf-sq8"
    assert device.returned == ["IndexIVFScalarQuantizer"]


def test_an_index_of_another_kind_is_searched_where_it_is(
    device: Device, vectors: np.ndarray, tmp_path: Path
) -> None:
    kind = kind_for("ivf-rabitq", len(vectors))
    built = building.build_kind(tmp_path / "one-bit", ArraySource(vectors), kind, 0.95, Heard())
    index = ApproximateIndex.open(tmp_path / "one-bit", built.parameters, gpu=True)
    assert len(index.search(vectors[0], 10)[0]) >= 10
    assert device.moved == []


def test_without_a_device_the_setting_is_said_to_have_no_effect(
    vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if gpu.gpu_present():
        pytest.skip("this machine has a GPU that FAISS sees")
    monkeypatch.setenv(gpu.SETTING, "1")
    gpu._say_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        built = building.build_index(tmp_path / "x", ArraySource(vectors), IndexWish(), Heard())
    assert built.rows == 2_000
    assert "a GPU was asked for and is not used" in caplog.text


def test_a_setting_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu.SETTING, "yes")
    with pytest.raises(ValueError, match="must be 0 or 1"):
        gpu.gpu_wished()
