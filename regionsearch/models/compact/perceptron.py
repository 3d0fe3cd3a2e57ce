"""A small multi-layer perceptron in numpy: what the segmenter's fitted parts are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Perceptron:
    """Standardise, clip, then linear layers with ReLU between them; no layer but the last: a linear model.

    mean, scale: (f,) float32, of the inputs. weights: one (in, out) float32 a layer; biases: (out,).
    clip: standardised inputs are limited to ± this, so that an odd picture cannot run away.
    """

    mean: Array
    scale: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    clip: float = 5.0

    def __call__(self, features: Array) -> Array:
        """Logits (n,) float32 of features (n, f)."""
        hidden = np.clip((features - self.mean) / self.scale, -self.clip, self.clip)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weight + bias
            if layer < last:
                np.maximum(hidden, 0, out=hidden)
        return np.asarray(hidden[:, 0], dtype=np.float32)

    def negated(self) -> Perceptron:
        """The perceptron whose logits are this one's with the sign turned."""
        weights = (*self.weights[:-1], -self.weights[-1])
        return replace(self, weights=weights, biases=(*self.biases[:-1], -self.biases[-1]))

    def to_arrays(self, prefix: str) -> dict[str, Array]:
        """Named arrays for an npz file; `from_arrays` reads them back."""
        arrays = {f"{prefix}.mean": self.mean, f"{prefix}.scale": self.scale}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            arrays[f"{prefix}.{layer}.weight"] = weight
            arrays[f"{prefix}.{layer}.bias"] = bias
        return arrays

    @staticmethod
    def from_arrays(arrays: Mapping[str, Array], prefix: str) -> Perceptron:
        """Raises KeyError when the arrays hold no perceptron of this name."""
        layers = sum(1 for name in arrays if name.startswith(f"{prefix}.") and name.endswith(".weight"))
        if layers == 0:
            raise KeyError(prefix)
        return Perceptron(
            mean=arrays[f"{prefix}.mean"],
            scale=arrays[f"{prefix}.scale"],
            weights=tuple(arrays[f"{prefix}.{layer}.weight"] for layer in range(layers)),
            biases=tuple(arrays[f"{prefix}.{layer}.bias"] for layer in range(layers)),
        )


def mean_logit(networks: Sequence[Perceptron], features: Array) -> Array:
    """The mean over several perceptrons fitted from different seeds, (n,) float32."""
    return np.asarray(np.mean([network(features) for network in networks], axis=0), dtype=np.float32)


def sigmoid(logits: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0))), dtype=np.float32)
