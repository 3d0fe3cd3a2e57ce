"""What pins a collection to the model that made its vectors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The identity of a model, as far as its outputs depend on it.

    The inference engine is no part of it: two engines that agree on the probe vector are one model.
    """

    name: str
    """The reference that finds the model again: `compact`, `virtue:/models/virtue-2b`."""
    weights: str
    """sha256 (hex) over all weights, shipped tables and settings, or "" for a model that has none."""
    dimension: int
    """Length of its vectors; 0 for a segmenter."""
    preprocessing: int
    """Version of everything between pixels or words and the network; raised when outputs change."""

    def same_model(self, other: Fingerprint) -> bool:
        """Whether the two give the same outputs: where the weights lie is no part of that."""
        return (self.kind, self.weights, self.dimension, self.preprocessing) == (
            other.kind,
            other.weights,
            other.dimension,
            other.preprocessing,
        )

    @property
    def kind(self) -> str:
        return self.name.partition(",")[0].partition(":")[0]

    def __str__(self) -> str:
        weights = self.weights[:12] or "none"
        numbers = f"dimension {self.dimension}, preprocessing {self.preprocessing}"
        return f"{self.name} (weights {weights}, {numbers})"
