"""EfficientNet-Lite as an ONNX graph, built from its state dictionary.

The architecture is that of Tan and Le 2019 in the Lite variants: MobileNet-style inverted residual
blocks without squeeze-and-excitation, with ReLU6; larger variants repeat the blocks of a stage more often
and make them wider. Batch normalisation is folded into the convolutions
(weights × gamma / deviation), which changes nothing but the rounding. Batch, height and width are free;
height and width are multiples of 32.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

INPUT = "pixels"
LAST = "last"
LEVELS = (2, 4, 7, 10, 14, 15)
"""What the graph hands out beside the last map: the outputs of the second to the seventh stage, called by
the last block of the stage in Lite0 (counted from 0), whatever the variant."""

_BATCH_NORM_EPSILON = 1e-3
_OPSET = 17


REPEATS: Mapping[str, tuple[int, ...]] = {
    "lite0": (1, 2, 2, 3, 3, 4, 1),
    "lite2": (1, 3, 3, 4, 4, 5, 1),
}
"""By variant: how many blocks each stage has (the paper's depth multiplier; the first and the last stage
keep their single block)."""
_KERNELS = (3, 3, 5, 3, 5, 5, 3)
_STRIDES = (1, 2, 2, 2, 1, 2, 1)


def blocks(variant: str) -> tuple[tuple[int, int], ...]:
    """Kernel and stride of every block of the variant, in order."""
    stages = zip(REPEATS[variant], _KERNELS, _STRIDES, strict=True)
    return tuple(
        (kernel, stride if repeat == 0 else 1)
        for repeats, kernel, stride in stages
        for repeat in range(repeats)
    )


def level_blocks(variant: str) -> dict[int, int]:
    """Block of the variant, counted from 0, to the one of LEVELS that its output is."""
    ends = itertools.accumulate(REPEATS[variant])
    return dict(zip([end - 1 for end in ends][1:], LEVELS, strict=True))


def level_name(level: int) -> str:
    """What the graph calls this one of LEVELS."""
    return f"level_{level}"


def same_padding(kernel: int, stride: int) -> tuple[int, int]:
    """Pixels before and after, as TensorFlow pads where the stride divides the size: the weights were
    fitted with the odd pixel at the end, not spread as PyTorch does."""
    total = kernel - stride
    return total // 2, total - total // 2


def build_graph(state: Mapping[str, NDArray[Any]], variant: str) -> bytes:
    """A serialised ONNX model.

    Input `pixels` (n, 3, h, w) float32, RGB, (value - 127) / 128. Outputs, float32: `level_<i>` for
    LEVELS, (n, c, h / s, w / s), and `last`, (n, 1280, h / 32, w / 32), what the classifier pools.
    """
    graph = _Graph(state)
    x = graph.convolution(INPUT, "_conv_stem", "_bn0", kernel=3, stride=2, relu=True)
    levels = level_blocks(variant)
    for index, (kernel, stride) in enumerate(blocks(variant)):
        output = level_name(levels[index]) if index in levels else f"block_{index}"
        x = graph.block(x, index, kernel, stride, output)
    graph.convolution(x, "_conv_head", "_bn1", kernel=1, stride=1, relu=True, output=LAST)
    return graph.model()


class _Graph:
    def __init__(self, state: Mapping[str, NDArray[Any]]) -> None:
        self._state = state
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        for name, value in (("zero", 0.0), ("six", 6.0)):
            self._constant(name, np.array(value, dtype=np.float32))

    def block(self, x: str, index: int, kernel: int, stride: int, output: str) -> str:
        """Expand, filter each channel, project; the input is added where its shape is that of the output."""
        prefix = f"_blocks.{index}."
        inner = x
        if f"{prefix}_expand_conv.weight" in self._state:
            inner = self.convolution(x, f"{prefix}_expand_conv", f"{prefix}_bn0", 1, 1, relu=True)
        inner = self.convolution(
            inner, f"{prefix}_depthwise_conv", f"{prefix}_bn1", kernel, stride, relu=True, depthwise=True
        )
        residual = self._keeps_shape(index, stride)
        projected = f"{output}_projected" if residual else output
        self.convolution(inner, f"{prefix}_project_conv", f"{prefix}_bn2", 1, 1, relu=False, output=projected)
        if residual:
            self._nodes.append(onnx.helper.make_node("Add", [projected, x], [output]))
        return output

    def _keeps_shape(self, index: int, stride: int) -> bool:
        if index == 0 or stride != 1:
            return False
        channels_in = self._state[f"_blocks.{index}._expand_conv.weight"].shape[1]
        channels_out = self._state[f"_blocks.{index}._project_conv.weight"].shape[0]
        return bool(channels_in == channels_out)

    def convolution(
        self,
        x: str,
        weights: str,
        norm: str,
        kernel: int,
        stride: int,
        *,
        relu: bool,
        depthwise: bool = False,
        output: str | None = None,
    ) -> str:
        """One convolution with its batch normalisation folded in; the name of the result."""
        output = output or f"{weights}_out"
        kernels, bias = folded(self._state, weights, norm)
        self._constant(f"{weights}.kernels", kernels)
        self._constant(f"{weights}.bias", bias)
        before, after = same_padding(kernel, stride)
        self._nodes.append(
            onnx.helper.make_node(
                "Conv",
                [x, f"{weights}.kernels", f"{weights}.bias"],
                [f"{output}_linear" if relu else output],
                kernel_shape=[kernel, kernel],
                strides=[stride, stride],
                pads=[before, before, after, after],
                group=kernels.shape[0] if depthwise else 1,
            )
        )
        if relu:
            self._nodes.append(onnx.helper.make_node("Clip", [f"{output}_linear", "zero", "six"], [output]))
        return output

    def model(self) -> bytes:
        float32 = onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            self._nodes,
            "efficientnet_lite",
            [onnx.helper.make_tensor_value_info(INPUT, float32, ["n", 3, "h", "w"])],
            [
                onnx.helper.make_tensor_value_info(name, float32, ["n", None, None, None])
                for name in [*map(level_name, LEVELS), LAST]
            ],
            self._initializers,
        )
        opsets = [onnx.helper.make_opsetid("", _OPSET)]
        model: bytes = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
        return model

    def _constant(self, name: str, values: NDArray[np.float32]) -> None:
        self._initializers.append(onnx.numpy_helper.from_array(np.asarray(values, order="C"), name))


def folded(
    state: Mapping[str, NDArray[Any]], weights: str, norm: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernels and bias of a convolution that includes its batch normalisation."""
    deviation = np.sqrt(state[f"{norm}.running_var"].astype(np.float64) + _BATCH_NORM_EPSILON)
    scale = state[f"{norm}.weight"] / deviation
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    kernels = state[f"{weights}.weight"] * scale[:, None, None, None]
    return kernels.astype(np.float32), bias.astype(np.float32)
