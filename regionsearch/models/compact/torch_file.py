"""Tensors out of a file that `torch.save` wrote before PyTorch 1.6, without importing torch.

Importing torch takes longer than everything else that the compact models do at start (docs/compact.md),
and this one file is all they would need it for. The reader is as strict as
`torch.load(weights_only=True)`: the only classes that the pickle can name are those listed here.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class _Storage:
    """The flat memory of one tensor, filled after the pickle that refers to it has been read."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.values: NDArray[Any] = np.empty(0, dtype)


class _Tensor:
    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
    ) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    def array(self) -> NDArray[Any]:
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if min(self.offset, *self.stride, 0) < 0 or last >= len(self.storage.values):
            raise ValueError(f"a tensor of shape {self.shape} reaches outside its storage")
        values = self.storage.values[self.offset :]
        # The weights came from another framework, and some lie in the file transposed.
        strides = tuple(step * values.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(values, self.shape, strides).copy()


_STORAGES: Mapping[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "LongStorage": np.dtype("<i8"),
}


class _Reader(pickle.Unpickler):
    """Knows the few classes that a dictionary of tensors is made of, and refuses all others."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Callable[..., Any] | str:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _STORAGES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights")

    def persistent_load(self, identity: Any) -> _Storage:
        kind, storage, key, _location, _count, view = identity
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"not a plain tensor storage: {identity!r}")
        return self.storages.setdefault(key, _Storage(_STORAGES[storage]))


def read_tensors(data: bytes) -> dict[str, NDArray[Any]]:
    """The state dictionary in `data`, by name: float32 and int64 arrays.

    Raises pickle.UnpicklingError or ValueError when the bytes are anything else.
    """
    file = io.BytesIO(data)
    header = [_Reader(file).load() for _ in range(3)]
    if header[:2] != [_MAGIC, _PROTOCOL] or not header[2].get("little_endian"):
        raise ValueError("not a file of torch's old format, little-endian")
    reader = _Reader(file)
    state = reader.load()
    for key in _Reader(file).load():
        storage = reader.storages[key]
        count = int(np.frombuffer(data, "<i8", 1, file.tell())[0])
        file.seek(8, io.SEEK_CUR)
        storage.values = np.frombuffer(data, storage.dtype, count, file.tell())
        file.seek(count * storage.dtype.itemsize, io.SEEK_CUR)
    return {name: tensor.array() for name, tensor in state.items()}
