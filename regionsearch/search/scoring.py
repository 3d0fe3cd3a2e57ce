"""What makes a score of signals: the weights of the parts and the calibration, fitted together and kept in
one file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from regionsearch.errors import InvalidRequest
from regionsearch.search.calibration import QUERY_KINDS, Calibration, QueryKind
from regionsearch.search.query import PART_NAMES

SHIPPED_FILE = "scoring.json"
MAX_WEIGHT = 1_000.0
LEAST_STEEPNESS, MOST_STEEPNESS = 0.01, 100.0


@dataclass(frozen=True, slots=True)
class EntityEvidence:
    """How an image's entities speak together.

    sharpness: of the soft maximum over them, per deviation; the larger, the more the entity that is most
    alike counts alone. objectness: exponent of an entity's objectness in its share of the soft maximum and
    in the probability of being the thing that is meant. choice: how fast that probability grows, per
    deviation of likeness. sharpness, choice: 0.01 to 100; objectness: 0 to 100; beyond, powers of numbers
    below 1 vanish.
    """

    sharpness: float
    objectness: float
    choice: float

    def __post_init__(self) -> None:
        steep = all(LEAST_STEEPNESS <= value <= MOST_STEEPNESS for value in (self.sharpness, self.choice))
        if not (steep and 0 <= self.objectness <= MOST_STEEPNESS):
            raise ValueError(
                f"sharpness and choice must be between {LEAST_STEEPNESS} and {MOST_STEEPNESS:g}, objectness "
                f"between 0 and {MOST_STEEPNESS:g}: {self}"
            )


@dataclass(frozen=True, slots=True)
class ScoringProfile:
    """How one query is scored. weights: by part name, all six of them."""

    weights: Mapping[str, float]
    evidence: EntityEvidence


@dataclass(frozen=True, slots=True)
class Scoring:
    """weights: by part name, one set for all kinds of queries. per_kind: sets fitted for one kind each, used
    by request alone. evidence: how entities speak together. calibration: makes scores of weighted sums."""

    weights: Mapping[str, float]
    per_kind: Mapping[QueryKind, Mapping[str, float]]
    evidence: EntityEvidence
    calibration: Calibration

    @property
    def version(self) -> str:
        """What answers name as their calibration."""
        return self.calibration.version

    def profile(self, asked: Mapping[str, float], kind: QueryKind | None = None) -> ScoringProfile:
        """The weights of a request put over the defaults. kind: the defaults fitted for this kind of query
        instead of those for all.

        Raises InvalidRequest on an unknown part and on a weight outside 0 to 1,000.
        """
        for name, weight in asked.items():
            if name not in PART_NAMES:
                raise InvalidRequest(
                    f"weights: there is no part {name!r}; there are: {', '.join(PART_NAMES)}",
                    field=f"weights[{name}]",
                )
            if not (math.isfinite(weight) and 0 <= weight <= MAX_WEIGHT):
                raise InvalidRequest(
                    f"weights: {name} is {weight}; it must be between 0 and {MAX_WEIGHT:g}",
                    field=f"weights[{name}]",
                )
        defaults = self.weights if kind is None else self.per_kind.get(kind, self.weights)
        return ScoringProfile({**defaults, **asked}, self.evidence)

    def to_json(self) -> dict[str, Any]:
        return {
            "weights": dict(self.weights),
            "per_kind": {kind: dict(weights) for kind, weights in self.per_kind.items()},
            "evidence": asdict(self.evidence),
            "calibration": self.calibration.to_json(),
        }


@cache
def shipped_scoring() -> Scoring:
    """The one that comes with the package."""
    text = resources.files("regionsearch.search").joinpath(SHIPPED_FILE).read_text("utf-8")
    return _parsed(text, SHIPPED_FILE)


def load_scoring(path: Path) -> Scoring:
    """A scoring file, as `regionsearch fit` writes it. Raises InvalidRequest when it is none."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidRequest(f"scoring file {str(path)!r} cannot be read: {why}", field="scoring") from error
    return _parsed(text, str(path))


def _parsed(text: str, name: str) -> Scoring:
    try:
        stored = json.loads(text)
        scoring = Scoring(
            weights={part: float(weight) for part, weight in stored["weights"].items()},
            per_kind={
                kind: {part: float(weight) for part, weight in weights.items()}
                for kind, weights in stored["per_kind"].items()
            },
            evidence=EntityEvidence(**{name: float(value) for name, value in stored["evidence"].items()}),
            calibration=Calibration.from_json(stored["calibration"]),
        )
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{name} is no scoring file: not JSON: {error}", field="scoring") from error
    except KeyError as error:
        raise InvalidRequest(f"{name} is no scoring file: {error} is missing", field="scoring") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"{name} is no scoring file: {error!s:.200}", field="scoring") from error
    if not set(scoring.per_kind) <= set(QUERY_KINDS):
        raise InvalidRequest(
            f"{name} is no scoring file: kinds of queries are {', '.join(QUERY_KINDS)}; it has weights for "
            f"{', '.join(scoring.per_kind)}",
            field="scoring",
        )
    for weights in (scoring.weights, *scoring.per_kind.values()):
        if set(weights) != set(PART_NAMES):
            raise InvalidRequest(
                f"{name} is no scoring file: its weights are of {', '.join(sorted(weights))}; there must be "
                f"one for each of {', '.join(PART_NAMES)}",
                field="scoring",
            )
        scoring.profile(weights)
    return scoring
