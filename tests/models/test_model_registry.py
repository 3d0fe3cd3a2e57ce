"""How loaded models are kept and handed out."""

from __future__ import annotations

import threading

import pytest

from regionsearch.errors import InvalidRequest, ModelUnavailable
from regionsearch.models import dummy, registry
from regionsearch.models.reference import ModelReference
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime


def test_a_loaded_model_is_at_hand_while_another_one_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def slowly(reference: ModelReference, runtime: Runtime) -> object:
        del reference, runtime
        loading.set()
        assert go_on.wait(30)
        return dummy.load_embedder(ModelReference("dummy"), Runtime())

    models = ModelRegistry()
    loaded = models.embedder("dummy"), models.segmenter("dummy")
    monkeypatch.setattr(dummy, "load_slowly", slowly, raising=False)
    monkeypatch.setattr(
        registry, "EMBEDDERS", {**registry.EMBEDDERS, "slow": "regionsearch.models.dummy:load_slowly"}
    )
    slow = threading.Thread(target=models.embedder, args=("slow",), daemon=True)
    slow.start()
    assert loading.wait(30)
    found: list[object] = []
    asking = threading.Thread(
        target=lambda: found.extend([models.embedder("dummy"), models.segmenter("dummy")]), daemon=True
    )
    asking.start()
    asking.join(10)
    in_time = list(found)
    go_on.set()
    slow.join(30)
    assert in_time == list(loaded)


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("embedder", "abc:"),
        ("embedder", "compact,colour=red"),
        ("embedder", "abc,context=no"),
        ("segmenter", "sam2:"),
        ("segmenter", "compact:/x"),
        ("segmenter", "sam2,points_per_side=no"),
    ],
)
def test_a_bad_reference_is_blamed_on_the_model_that_it_names(role: str, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        getattr(ModelRegistry(), role)(name)
    assert refused.value.field == role


def test_the_home_of_nobody_is_a_folder_that_is_not_there() -> None:
    with pytest.raises(ModelUnavailable, match="there is no model folder"):
        ModelRegistry().embedder("~nobody-of-this-name/x")
