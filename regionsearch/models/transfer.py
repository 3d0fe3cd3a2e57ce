"""Arrays to a device, without the device waiting for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def to_device(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The tensor on the device, in another precision if one is given.

    To a GPU it goes through pinned memory, which lets the copy run while the GPU computes; the copy is
    on the current stream, so what uses the tensor afterwards needs no care.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device=device, dtype=dtype, non_blocking=device.type == "cuda")
