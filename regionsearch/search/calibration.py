"""Weighted sums become scores from 0 to 1 that mean the same for every kind of query.

A score is the share of images with such a sum, for such a query, that answer it: the logistic of a linear
function of the sum and of what is known of the query. docs/fitting.md says how it was fitted and how well it
holds on other photos.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

QueryKind = Literal["words", "pixels", "both"]
"""`words`: text alone. `pixels`: an image, regions of it or a ready vector. `both`: pixels and words."""
QUERY_KINDS: tuple[QueryKind, ...] = ("words", "pixels", "both")

COMPANY = 10
"""Best sums of a query that say how high its sums are altogether: some queries resemble everything."""
NAME_WORDS = 5
"""Words up to which a text names one thing (`a photo of a dog`)."""
MOST_WORDS = 15
"""Beyond, no further words are counted: nothing longer was seen in fitting."""


@dataclass(frozen=True, eq=False)
class QueryFacts:
    """What is known of a query before its hits are scored.

    kind: what it was asked with. text: its words, "" for none. images: how many the collection holds.
    totals: (c,) weighted sums of the candidates that match, the best of them at least.
    """

    kind: QueryKind
    text: str
    images: int
    totals: NDArray[np.float64]

    @property
    def company(self) -> float:
        """Median of the ten best sums, or of all when there are fewer; 0 without any. One image that stands
        out, such as the query's own, hardly moves it."""
        best = np.sort(self.totals)[-COMPANY:]
        return float(np.median(best)) if len(best) else 0.0

    @property
    def further_words(self) -> int:
        """Words beyond those that name a thing: each is a condition more that an image must meet."""
        return max(0, min(len(self.text.split()), MOST_WORDS) - NAME_WORDS)


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

    def total_of(self, score: float) -> float:
        """The weighted sum from which on this score is reached, above 0 to 1."""
        # Above this, a float64 is 1.
        logit = math.log(score / (1 - score)) if score < 1 else 36.0
        return (logit - self.intercept) / self.slope


@dataclass(frozen=True, slots=True)
class KindCalibration:
    """Of one kind of query, in log-odds: intercept; slope, above 0, for each unit by which the weighted sum
    lies above the company's share; further_words, for each of them."""

    intercept: float
    slope: float
    further_words: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """version: what answers name. company: share of `QueryFacts.company` that is taken off every sum, 0 for
    sums that count as they are, 1 for sums that count beside the others alone. kinds: one for each
    kind of query."""

    version: str
    company: float
    kinds: Mapping[QueryKind, KindCalibration]

    def of(self, facts: QueryFacts) -> Calibrator:
        """The calibration for one query. Within it, scores rise with the sums."""
        kind = self.kinds[facts.kind]
        intercept = kind.intercept + kind.further_words * facts.further_words
        return Calibrator(intercept - kind.slope * self.company * facts.company, kind.slope)

    def to_json(self) -> dict[str, Any]:
        kinds = {kind: asdict(one) for kind, one in self.kinds.items()}
        return {"version": self.version, "company": self.company, "kinds": kinds}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> Calibration:
        """Raises KeyError, TypeError or ValueError when it is not what `to_json` made."""
        kinds = {
            kind: KindCalibration(**{name: float(value) for name, value in stored["kinds"][kind].items()})
            for kind in QUERY_KINDS
        }
        for kind, one in kinds.items():
            if not (one.slope > 0 and all(math.isfinite(value) for value in asdict(one).values())):
                raise ValueError(f"{kind}: the slope must be above 0, and all numbers finite")
        company = float(stored["company"])
        if not 0 <= company <= 1:
            raise ValueError(f"company is {company}; it must be between 0 and 1")
        return Calibration(str(stored["version"]), company, kinds)
