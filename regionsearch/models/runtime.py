"""Where and in which precision models compute. No part of what a model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from regionsearch.errors import InvalidRequest, ModelUnavailable

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "bf16", "fp16")
DEFAULT_TOKEN_BUDGET = 16_384


@dataclass(frozen=True, slots=True)
class Runtime:
    """threads: cores that a model may use inside one call; None leaves it to the model.

    device: `auto` (the first GPU when torch sees one, else the CPU), `cpu`, `cuda` or `cuda:N`.
    dtype: `auto` is bf16 on a GPU that has it, else fp16 there, and fp32 on a CPU.
    token_budget: tokens (padding counted) of one forward pass of a language model or a vision tower.
    The compact models compute on the CPU in fp32 whatever is said here.
    """

    threads: int | None = None
    device: str = "auto"
    dtype: Precision = "auto"
    token_budget: int = DEFAULT_TOKEN_BUDGET

    def torch_device(self) -> torch.device:
        """Raises InvalidRequest for a device that torch cannot name, ModelUnavailable for one that is
        not there."""
        import torch

        if self.device == "auto":
            return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError:
            device = None
        # torch knows names of more devices than anything here was written for, `meta` among them.
        if device is None or device.type not in ("cpu", "cuda"):
            raise InvalidRequest(
                f"{self.device!r} is no device; there are: auto, cpu, cuda, cuda:N", field="device"
            )
        if device.type == "cuda":
            count = torch.cuda.device_count()
            if (device.index or 0) >= count:
                raise ModelUnavailable(
                    f"device {self.device!r} is not there: torch {torch.__version__} sees {count} GPUs",
                    field="device",
                )
        return device

    def devices(self) -> list[str]:
        """Every device that `auto` or `cuda` stands for; otherwise the one that is named."""
        if self.device not in ("auto", "cuda"):
            return [self.device]
        import torch

        return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or [self.device]

    def torch_dtype(self) -> torch.dtype:
        import torch

        named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        if self.dtype != "auto":
            return named[self.dtype]
        device = self.torch_device()
        if device.type != "cuda":
            return torch.float32
        with torch.cuda.device(device):
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
