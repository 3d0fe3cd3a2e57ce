"""What pins a collection to the model that made its vectors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The identity of a model, as far as its outputs depend on it.

    The inference engine is no part of it: two engines that agree on the probe vector are one model.
    """

    name: str
    weights: str
    """sha256 (hex) over all weights and shipped tables, or "" for a model that has none."""
    dimension: int
    """Length of its vectors; 0 for a segmenter."""
    preprocessing: int
    """Version of everything between pixels or words and the network; raised when outputs change."""

    def __str__(self) -> str:
        weights = self.weights[:12] or "none"
        numbers = f"dimension {self.dimension}, preprocessing {self.preprocessing}"
        return f"{self.name} (weights {weights}, {numbers})"
