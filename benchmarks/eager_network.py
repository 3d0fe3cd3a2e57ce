"""EfficientNet-Lite as plain PyTorch modules: what the compact network is measured against.

The same weights in the way that they were published, with batch normalisation as layers of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from regionsearch.models.compact.network_graph import blocks, level_blocks, same_padding


class EagerNetwork(nn.Module):
    """Input (n, 3, h, w) float32 as CompactNetwork's; gives the levels by LEVELS, and the last map."""

    def __init__(self, state: Mapping[str, NDArray[Any]], variant: str) -> None:
        super().__init__()
        self._levels = level_blocks(variant)
        self.stem = _convolution(state, "_conv_stem", "_bn0", kernel=3, stride=2, relu=True)
        self.blocks = nn.ModuleList(
            _Block(state, index, kernel, stride) for index, (kernel, stride) in enumerate(blocks(variant))
        )
        self.head = _convolution(state, "_conv_head", "_bn1", kernel=1, stride=1, relu=True)
        self.eval()

    def forward(self, x: torch.Tensor) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
        levels = {}
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self._levels:
                levels[self._levels[index]] = x
        return levels, self.head(x)


class _Block(nn.Module):
    def __init__(self, state: Mapping[str, NDArray[Any]], index: int, kernel: int, stride: int) -> None:
        super().__init__()
        prefix = f"_blocks.{index}."
        steps: list[nn.Module] = []
        if f"{prefix}_expand_conv.weight" in state:
            steps.append(_convolution(state, f"{prefix}_expand_conv", f"{prefix}_bn0", 1, 1, relu=True))
        steps.append(
            _convolution(state, f"{prefix}_depthwise_conv", f"{prefix}_bn1", kernel, stride, relu=True)
        )
        steps.append(_convolution(state, f"{prefix}_project_conv", f"{prefix}_bn2", 1, 1, relu=False))
        self.inner = nn.Sequential(*steps)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x)
        return out + x if self.stride == 1 and out.shape == x.shape else out


def _convolution(
    state: Mapping[str, NDArray[Any]], weights: str, norm: str, kernel: int, stride: int, *, relu: bool
) -> nn.Sequential:
    kernels = state[f"{weights}.weight"]
    depthwise = "depthwise" in weights
    channels_in = kernels.shape[0] if depthwise else kernels.shape[1]
    groups = channels_in if depthwise else 1
    convolution = nn.Conv2d(channels_in, kernels.shape[0], kernel, stride, groups=groups, bias=False)
    normalisation = nn.BatchNorm2d(kernels.shape[0], eps=1e-3)
    with torch.no_grad():
        convolution.weight.copy_(_tensor(kernels))
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(normalisation, name).copy_(_tensor(state[f"{norm}.{name}"]))
    before, after = same_padding(kernel, stride)
    if before == after:
        # What most implementations do, and the quicker way: the convolution pads by itself.
        convolution.padding = (before, before)
        steps: list[nn.Module] = [convolution, normalisation]
    else:
        steps = [nn.ZeroPad2d((before, after, before, after)), convolution, normalisation]
    return nn.Sequential(*steps, nn.ReLU6(inplace=True)) if relu else nn.Sequential(*steps)


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.array(values))
