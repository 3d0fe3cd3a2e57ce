"""The encoder of all-MiniLM-L6-v2 (BERT, Devlin et al. 2019) as an ONNX graph, built from its weights.

The graph starts behind the embedding tables, which are half of all weights: looking rows up in numpy
costs nothing, and the graph that has to be copied and optimised at every start stays small.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

LAYERS = 6
HEADS = 12
WIDTH = 384
NORM_EPSILON = 1e-12

EMBEDDED = "embedded"
BIAS = "attention_bias"
OUTPUT = "hidden"
_OPSET = 20


def build_graph(weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """A serialised ONNX model.

    Inputs: `embedded` (n, tokens, 384) float32, the sum of the three embedding tables before its
    normalisation; `attention_bias` (n, 1, 1, tokens) float32, 0 for tokens and very negative for padding.
    Output: `hidden` (n, tokens, 384) float32, the last layer.
    """
    graph = _Graph(weights)
    x = graph.norm(EMBEDDED, "embeddings.LayerNorm", "input")
    for layer in range(LAYERS):
        x = graph.layer(x, f"encoder.layer.{layer}", OUTPUT if layer == LAYERS - 1 else f"layer_{layer}")
    return graph.model()


class _Graph:
    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        head = WIDTH // HEADS
        self._constant("split", np.array([0, 0, HEADS, head], dtype=np.int64))
        self._constant("join", np.array([0, 0, WIDTH], dtype=np.int64))
        self._constant("scale", np.array(1 / np.sqrt(head), dtype=np.float32))

    def layer(self, x: str, prefix: str, output: str) -> str:
        """Self-attention and feed-forward, each with its residual and a normalisation behind it."""
        attended = self._attention(x, f"{prefix}.attention.self", f"{output}_attention")
        attended = self._dense(attended, f"{prefix}.attention.output.dense", f"{output}_mixed")
        attended = self._node("Add", [attended, x], f"{output}_attended")
        attended = self.norm(attended, f"{prefix}.attention.output.LayerNorm", f"{output}_middle")
        inner = self._dense(attended, f"{prefix}.intermediate.dense", f"{output}_wide")
        inner = self._node("Gelu", [inner], f"{output}_active")
        inner = self._dense(inner, f"{prefix}.output.dense", f"{output}_narrow")
        inner = self._node("Add", [inner, attended], f"{output}_sum")
        return self.norm(inner, f"{prefix}.output.LayerNorm", output)

    def norm(self, x: str, weights: str, output: str) -> str:
        scale, bias = self._weight(f"{weights}.weight"), self._weight(f"{weights}.bias")
        return self._node("LayerNormalization", [x, scale, bias], output, axis=-1, epsilon=NORM_EPSILON)

    def model(self) -> bytes:
        float32 = onnx.TensorProto.FLOAT
        graph = onnx.helper.make_graph(
            self._nodes,
            "minilm",
            [
                onnx.helper.make_tensor_value_info(EMBEDDED, float32, ["n", "tokens", WIDTH]),
                onnx.helper.make_tensor_value_info(BIAS, float32, ["n", 1, 1, "tokens"]),
            ],
            [onnx.helper.make_tensor_value_info(OUTPUT, float32, ["n", "tokens", WIDTH])],
            self._initializers,
        )
        opsets = [onnx.helper.make_opsetid("", _OPSET)]
        model: bytes = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
        return model

    def _attention(self, x: str, prefix: str, name: str) -> str:
        """Vaswani et al. 2017, eq. 1, for all heads at once."""
        heads = {}
        for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
            flat = self._dense(x, f"{prefix}.{part}", f"{name}_{part}")
            split = self._node("Reshape", [flat, "split"], f"{name}_{part}_split")
            heads[part] = self._node("Transpose", [split], f"{name}_{part}_heads", perm=order)
        match = self._node("MatMul", [heads["query"], heads["key"]], f"{name}_match")
        match = self._node("Mul", [match, "scale"], f"{name}_scaled")
        match = self._node("Add", [match, BIAS], f"{name}_masked")
        share = self._node("Softmax", [match], f"{name}_share", axis=-1)
        mixed = self._node("MatMul", [share, heads["value"]], f"{name}_heads")
        mixed = self._node("Transpose", [mixed], f"{name}_tokens", perm=[0, 2, 1, 3])
        return self._node("Reshape", [mixed, "join"], f"{name}_joined")

    def _dense(self, x: str, weights: str, output: str) -> str:
        # ONNX multiplies from the right: the weights are stored the other way round.
        self._constant(f"{weights}.transposed", self._weights[f"{weights}.weight"].T)
        product = self._node("MatMul", [x, f"{weights}.transposed"], f"{output}_product")
        return self._node("Add", [product, self._weight(f"{weights}.bias")], output)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self._nodes.append(onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _weight(self, name: str) -> str:
        self._constant(name, self._weights[name])
        return name

    def _constant(self, name: str, values: NDArray[np.generic]) -> None:
        self._initializers.append(onnx.numpy_helper.from_array(np.asarray(values, order="C"), name))
