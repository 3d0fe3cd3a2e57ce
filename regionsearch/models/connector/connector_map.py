"""The learned map from an embedder's vectors of pixels to where their captions lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
import scipy.special
from numpy.typing import NDArray

from regionsearch.errors import ModelUnavailable
from regionsearch.models.quoting import first_line

WEIGHTS_FILE = "connector.safetensors"
SHORTEST = 1e-12
"""A part of a vector that is shorter has no direction; it is not divided by its length."""


@dataclass(frozen=True, eq=False)
class ConnectorMap:
    """Linear – GELU – linear (VIRTUE's connector), added to the vector that goes in; float32.

    skip: (), 1 when it is added to that vector and 0 when it stands alone.
    reached: (r,) int64, rising: the dimensions that the embedder's texts reach (compact: the first 384
        of 640). The others have nothing to do with words and pass unchanged.
    first_weight (h, d), first_bias (h,), second_weight (r, h), second_bias (r,).
    """

    skip: NDArray[np.float32]
    reached: NDArray[np.int64]
    first_weight: NDArray[np.float32]
    first_bias: NDArray[np.float32]
    second_weight: NDArray[np.float32]
    second_bias: NDArray[np.float32]

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, d) unit vectors → (n, d) unit vectors.

        The part that texts reach is turned, not stretched: how much of a vector is for words, and how much
        is not, stays as the embedder has it.
        """
        part = vectors[:, self.reached]
        length = np.linalg.norm(part, axis=1, keepdims=True)
        hidden = vectors @ self.first_weight.T + self.first_bias
        # GELU as it is defined, by the normal distribution's own function (Hendrycks and Gimpel 2016).
        hidden = hidden * np.float32(0.5) * (1 + scipy.special.erf(hidden / np.float32(np.sqrt(2))))
        turned = hidden @ self.second_weight.T + self.second_bias
        turned += self.skip * part / np.maximum(length, SHORTEST)
        turned /= np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), SHORTEST)
        mapped = vectors.copy()
        mapped[:, self.reached] = turned * length
        return mapped

    def save(self, folder: Path) -> None:
        """Writes WEIGHTS_FILE in one step: a folder has the whole file or the one before."""
        tensors = {name: np.array(getattr(self, name), order="C") for name in _NAMES}
        unfinished = folder / f"{WEIGHTS_FILE}.unfinished"
        with unfinished.open("wb") as file:
            file.write(safetensors.numpy.save(tensors))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(folder / WEIGHTS_FILE)


_NAMES = ("skip", "reached", "first_weight", "first_bias", "second_weight", "second_bias")


def read_map(folder: Path, dimension: int) -> ConnectorMap:
    """The map in a folder, for vectors of `dimension`. Raises ModelUnavailable, naming the file, when it is
    missing, damaged, or not for such vectors."""
    file = folder / WEIGHTS_FILE
    try:
        tensors = safetensors.numpy.load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelUnavailable(f"weights {file} cannot be read: {first_line(error)}") from error
    if sorted(tensors) != sorted(_NAMES):
        raise ModelUnavailable(f"weights {file} hold {', '.join(sorted(tensors))}: no connector's")
    reached = tensors["reached"]
    hidden = len(tensors["first_bias"])
    shapes = {
        "skip": (),
        "first_weight": (hidden, dimension),
        "second_weight": (len(reached), hidden),
        "second_bias": (len(reached),),
    }
    for name, shape in shapes.items():
        if tensors[name].shape != shape or not np.isfinite(tensors[name]).all():
            raise ModelUnavailable(
                f"weights {file}: {name} has shape {tensors[name].shape}, not {shape}, or is not finite"
            )
    if not np.array_equal(reached, np.unique(reached)) or not all(0 <= d < dimension for d in reached):
        raise ModelUnavailable(f"weights {file}: reached names no dimensions of {dimension}")
    return ConnectorMap(**tensors)
