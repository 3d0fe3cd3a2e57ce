"""Weighted sums become scores from 0 to 1 that mean the same for every kind of query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

QueryKind = Literal["words", "pixels", "both"]
"""`words`: text alone. `pixels`: an image, regions of it or a ready vector. `both`: pixels and words."""


@dataclass(frozen=True, eq=False)
class QueryFacts:
    """What is known of a query before its hits are scored.

    kind: what it was asked with. text: its words, "" for none. images: how many the collection holds.
    totals: (c,) weighted sums of the candidates that match.
    """

    kind: QueryKind
    text: str
    images: int
    totals: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Of one query: the logistic of intercept + slope × weighted sum; slope above 0."""

    intercept: float
    slope: float

    def scores(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) float64 from 0 to 1, higher for higher sums."""
        logits = np.clip(self.intercept + self.slope * np.asarray(totals, np.float64), -700.0, 700.0)
        scores: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits))
        return scores


@dataclass(frozen=True, slots=True)
class Calibration:
    """version: what answers name. slopes, intercepts: by kind of query."""

    version: str
    slopes: Mapping[str, float]
    intercepts: Mapping[str, float]

    def of(self, facts: QueryFacts) -> Calibrator:
        """The calibration for one query."""
        return Calibrator(self.intercepts[facts.kind], self.slopes[facts.kind])

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "slopes": dict(self.slopes),
            "intercepts": dict(self.intercepts),
        }

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> Calibration:
        return Calibration(
            str(stored["version"]),
            {kind: float(value) for kind, value in stored["slopes"].items()},
            {kind: float(value) for kind, value in stored["intercepts"].items()},
        )
