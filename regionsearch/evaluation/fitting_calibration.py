"""The calibration of scores, fitted on what share of the first hits answers a question."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.evaluation.fitting_signals import AskedSignals
from regionsearch.evaluation.ranking_metrics import CALIBRATION_HITS, expected_calibration_error
from regionsearch.search.calibration import (
    QUERY_KINDS,
    Calibration,
    KindCalibration,
    QueryFacts,
    QueryKind,
)

RIDGE = 1e-3
"""On slopes and coefficients, beside a mean loss: settles what the hits leave open, and little else."""
LEAST_SLOPE = 0.01
COMPANY_SHARE = 0.7
"""Shares from 0.3 to 0.85 carry over equally well between folders; of none, or of all, less
(docs/fitting.md). Left free for each kind, it carried over no better."""


@dataclass(frozen=True, eq=False)
class FirstHits:
    """The first ten hits of questions of one block: totals, company, further_words, relevant (h,)."""

    totals: NDArray[np.float64]
    company: NDArray[np.float64]
    further_words: NDArray[np.float64]
    relevant: NDArray[np.bool_]


def first_hits(asked: Sequence[AskedSignals], weights: NDArray[np.float64]) -> dict[str, FirstHits]:
    """By block. The own photo of a question is scored, so it counts in the company, but is no hit."""
    rows: dict[str, list[tuple[float, float, float, bool]]] = defaultdict(list)
    for signals in asked:
        totals = signals.totals(weights)
        facts = QueryFacts(signals.kind, signals.text, len(totals), totals)
        for place in signals.ranking(weights)[:CALIBRATION_HITS]:
            row = (totals[place], facts.company, facts.further_words, bool(signals.relevant[place]))
            rows[signals.block].append(row)
    found = {}
    for block, values in rows.items():
        columns = np.array(values, dtype=np.float64).T
        found[block] = FirstHits(columns[0], columns[1], columns[2], columns[3].astype(np.bool_))
    return found


def kind_of_block(block: str) -> QueryKind:
    kinds: Mapping[str, QueryKind] = {"region_to_image": "pixels", "composed": "both"}
    return kinds.get(block, "words")


def fit_calibration(sets: Sequence[Mapping[str, FirstHits]], prior: Calibration) -> Calibration:
    """Fitted by weighted logistic regression, each block of each set counting the same.

    prior: stands for kinds of which there are no hits, and for the cost of words where no sentence was seen.
    """
    kinds: dict[QueryKind, KindCalibration] = {}
    for kind in QUERY_KINDS:
        own = [hits for one in sets for block, hits in one.items() if kind_of_block(block) == kind]
        kinds[kind] = _fit_kind(own, prior.kinds[kind]) if own else prior.kinds[kind]
    unnamed = json.dumps(Calibration("", COMPANY_SHARE, kinds).to_json(), sort_keys=True)
    digest = hashlib.sha256(unnamed.encode()).hexdigest()
    return Calibration(f"fitted-{digest[:8]}", COMPANY_SHARE, kinds)


def _fit_kind(blocks: Sequence[FirstHits], prior: KindCalibration) -> KindCalibration:
    from scipy.optimize import minimize

    features = np.concatenate([_features(one) for one in blocks])
    relevant = np.concatenate([one.relevant for one in blocks]).astype(np.float64)
    count = np.concatenate([np.full(len(one.totals), float(len(one.totals))) for one in blocks])
    share = 1.0 / (count * len(blocks))
    # Without a sentence among the questions, nothing says what a further word costs.
    sentences = bool(features[:, 2].any())
    ridge = RIDGE * np.array([0.0, 1.0, 1.0])

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = features @ x
        error = 1.0 / (1.0 + np.exp(-np.clip(logits, -500, 500))) - relevant
        value = float((share * (np.logaddexp(0.0, logits) - relevant * logits)).sum() + (ridge * x**2).sum())
        return value, features.T @ (share * error) + 2 * ridge * x

    fixed = prior.further_words
    words = (None, 0.0) if sentences else (fixed, fixed)
    start = np.array([0.0, 0.5, 0.0 if sentences else fixed])
    fitted = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(None, None), (LEAST_SLOPE, None), words]
    ).x
    return KindCalibration(*(round(float(value), 4) for value in fitted))


def _features(hits: FirstHits) -> NDArray[np.float64]:
    above = hits.totals - COMPANY_SHARE * hits.company
    return np.stack([np.ones(len(above)), above, hits.further_words], axis=1)


def calibration_errors(hits: Mapping[str, FirstHits], calibration: Calibration) -> dict[str, float]:
    """By block the expected calibration error of the first hits."""
    return {
        block: expected_calibration_error(scores_of(block, one, calibration), one.relevant) or 0.0
        for block, one in hits.items()
    }


def scores_of(block: str, hits: FirstHits, calibration: Calibration) -> NDArray[np.float64]:
    kind = calibration.kinds[kind_of_block(block)]
    logits = _features(hits) @ np.array([kind.intercept, kind.slope, kind.further_words])
    scores: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(logits, -500, 500)))
    return scores
