"""The reader of torch's old files gives what torch gives, and runs nothing that a file asks for."""

from __future__ import annotations

import collections
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from regionsearch.models.compact.torch_file import read_tensors
from regionsearch.models.compact.weights import IMAGE_NETWORK, locate, read_verified


def old_file(state: object) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def test_every_tensor_of_the_shipped_network_is_what_torch_reads() -> None:
    expected = torch.load(locate(IMAGE_NETWORK), weights_only=True)
    found = read_tensors(read_verified(IMAGE_NETWORK))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], tensor.numpy()) for name, tensor in expected.items())


def test_transposed_shared_and_scalar_tensors_keep_their_values() -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = collections.OrderedDict(
        whole=base, transposed=base.t(), part=base[1:3, 2:5], scalar=torch.tensor(7), empty_tail=base[3]
    )
    found = read_tensors(old_file(state))
    assert all(np.array_equal(found[name], tensor.numpy()) for name, tensor in state.items())
    assert found["scalar"].shape == ()


class _Mischief:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_file_that_names_anything_but_tensors_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "made_by_a_pickle"
    with pytest.raises(pickle.UnpicklingError, match="has no place in a file of weights"):
        read_tensors(old_file({"weights": _Mischief(target)}))
    assert not target.exists()


def test_a_file_in_another_format_is_refused() -> None:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, file)
    with pytest.raises(pickle.UnpicklingError):
        read_tensors(file.getvalue())
    with pytest.raises(ValueError, match="not a file of torch's old format"):
        read_tensors(pickle.dumps(1) + pickle.dumps(2) + pickle.dumps({}))
