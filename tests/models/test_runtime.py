"""Where models compute."""

from __future__ import annotations

import pytest
import torch

from regionsearch.errors import InvalidRequest, ModelUnavailable
from regionsearch.models.runtime import Runtime


class _NoContext:
    def __init__(self, device: torch.device) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two GPUs, as torch would tell of them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", _NoContext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    return monkeypatch


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.usefixtures("no_gpus")
def test_without_a_gpu_all_is_on_the_cpu_in_full_precision() -> None:
    assert Runtime().torch_device() == torch.device("cpu")
    assert Runtime().torch_dtype() == torch.float32
    assert Runtime(dtype="bf16").torch_dtype() == torch.bfloat16
    assert Runtime().devices() == ["auto"]


@pytest.mark.usefixtures("no_gpus")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_a_gpu_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(ModelUnavailable, match=f"'{device}' is not there: .* sees 0 GPUs"):
        Runtime(device=device).torch_device()


@pytest.mark.parametrize("device", ["gpu", "meta", "mps", "xpu:0", "", "cuda:x", "cuda:-1", "0"])
def test_a_device_that_nothing_here_computes_on_is_refused(device: str) -> None:
    with pytest.raises(InvalidRequest, match="is no device; there are: auto, cpu, cuda, cuda:N"):
        Runtime(device=device).torch_device()


def test_the_first_gpu_is_taken_when_nothing_is_said(gpus: pytest.MonkeyPatch) -> None:
    assert Runtime().torch_device() == torch.device("cuda:0")
    assert Runtime(device="cuda:1").torch_device() == torch.device("cuda:1")
    assert Runtime(device="cpu").torch_device() == torch.device("cpu")
    assert Runtime().devices() == Runtime(device="cuda").devices() == ["cuda:0", "cuda:1"]
    assert Runtime(device="cuda:1").devices() == ["cuda:1"]
    with pytest.raises(ModelUnavailable, match="sees 2 GPUs"):
        Runtime(device="cuda:2").torch_device()


def test_half_precision_on_a_gpu_is_bf16_where_it_has_that(gpus: pytest.MonkeyPatch) -> None:
    assert Runtime().torch_dtype() == torch.bfloat16
    assert Runtime(device="cpu").torch_dtype() == torch.float32
    assert Runtime(dtype="fp32").torch_dtype() == torch.float32
    gpus.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert Runtime().torch_dtype() == torch.float16
