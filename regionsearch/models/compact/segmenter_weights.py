"""The segmenter's fitted numbers: one small npz file, made by `regionsearch.training.fit_segmenter`."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import ModelUnavailable
from regionsearch.models.compact.merge_tree import LEVEL_NAMES, DeepScale
from regionsearch.models.compact.perceptron import Perceptron

SHIPPED = Path(__file__).with_name("segmenter_weights.npz")
SHIPPED_SHA256 = "c374cadebbef43ab01c7e4fecfc56db138826533277b61618c6de7041d09642c"
"""Of the file that ships with the package; another one in its place is refused."""


@dataclass(frozen=True, eq=False)
class SegmenterWeights:
    """scale: of the network's features. thing: probability that a superpixel lies on a countable thing.
    affinity: logit that two neighbouring regions are of one segment. rankers: logits of being a thing,
    to be averaged."""

    scale: DeepScale
    thing: Perceptron
    affinity: Perceptron
    rankers: tuple[Perceptron, ...]

    def to_bytes(self) -> bytes:
        """An npz file; equal weights give equal bytes."""
        arrays: dict[str, NDArray[np.float32]] = {}
        for name in LEVEL_NAMES:
            arrays[f"scale.{name}.mean"] = self.scale.mean[name]
            arrays[f"scale.{name}.deviation"] = self.scale.deviation[name]
        arrays.update(self.thing.to_arrays("thing"))
        arrays.update(self.affinity.to_arrays("affinity"))
        for number, ranker in enumerate(self.rankers):
            arrays.update(ranker.to_arrays(f"ranker{number}"))
        file = io.BytesIO()
        np.savez(
            file, allow_pickle=False, **{name: value.astype(np.float32) for name, value in arrays.items()}
        )
        return file.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> SegmenterWeights:
        """Raises ValueError or KeyError when the bytes are not such a file."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], dtype=np.float32) for name in file.files}
        rankers = len({name.partition(".")[0] for name in arrays if name.startswith("ranker")})
        return SegmenterWeights(
            scale=DeepScale(
                mean={name: arrays[f"scale.{name}.mean"] for name in LEVEL_NAMES},
                deviation={name: arrays[f"scale.{name}.deviation"] for name in LEVEL_NAMES},
            ),
            thing=Perceptron.from_arrays(arrays, "thing"),
            affinity=Perceptron.from_arrays(arrays, "affinity"),
            rankers=tuple(Perceptron.from_arrays(arrays, f"ranker{number}") for number in range(rankers)),
        )


def read_weights(path: Path | None = None) -> tuple[SegmenterWeights, str]:
    """The weights and the sha256 (hex) of their file: the shipped one, or the one at `path`.

    Raises ModelUnavailable when it is missing or cannot be read, or when the shipped one is not the
    one that was shipped.
    """
    where = SHIPPED if path is None else path
    if not where.is_file():
        raise ModelUnavailable(f"the compact segmenter's weights are missing: {where}")
    data = where.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if path is None and found != SHIPPED_SHA256:
        raise ModelUnavailable(
            f"{where} has sha256 {found}, but {SHIPPED_SHA256} was shipped; it is not loaded: "
            "install regionsearch again"
        )
    try:
        return SegmenterWeights.from_bytes(data), found
    except (ValueError, KeyError, EOFError) as error:
        raise ModelUnavailable(f"{where} does not hold weights of the compact segmenter: {error}") from error
