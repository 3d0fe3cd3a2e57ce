"""Weights and calibration fitted on a user's own judgements, starting from those that ship.

Few judgements must not make wild weights: a weight moves from the shipped one only as far as the judgements
pull against a ridge on its logarithm, and how far that helps is said by cross-validation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.judgements import JudgedSignals
from regionsearch.search.calibration import QUERY_KINDS, Calibration, KindCalibration, QueryKind
from regionsearch.search.scoring import Scoring

LEAST_JUDGEMENTS = 10
"""With good and bad images each. Fewer would fit the questions, not the collection."""
LEAST_OF_KIND = 10
"""Judgements of one kind of query from which its calibration is fitted anew."""
FOLDS = 5
RIDGE = 0.1
"""On the logarithms of the weights' changes, beside a mean loss: a weight doubles where that lowers the loss
by 0.05."""
CALIBRATION_RIDGE = 0.01
MOST_CHANGE = np.log(8.0)


@dataclass(frozen=True, slots=True)
class JudgedFit:
    """scoring: fitted on all judgements. before, after: of the judged pairs of a good and a bad image the
    share that stands in the right order, mean over judgements: by the weights before, and by weights fitted
    without the judgement (5 folds). changes: by part name what the weight was multiplied with. judgements:
    how many were used. unseen: judged images that no answer held."""

    scoring: Scoring
    before: float
    after: float
    changes: Mapping[str, float]
    judgements: int
    unseen: int


def fit_judgements(judged: Sequence[JudgedSignals], base: Scoring) -> JudgedFit:
    """Raises InvalidRequest when there are too few judgements whose images were found, or all their parts
    weigh 0."""
    usable = [one for one in judged if len(one.good) and len(one.bad)]
    unseen = sum(one.unseen for one in judged)
    if len(usable) < LEAST_JUDGEMENTS:
        raise InvalidRequest(
            f"{len(usable)} judgements with good and bad images that the search found are too few; there "
            f"must be {LEAST_JUDGEMENTS}",
            field="judgements",
        )
    asked = {name for one in usable for name in one.names}
    if not any(base.weights[name] > 0 for name in asked):
        raise InvalidRequest(
            f"all parts of these queries ({', '.join(sorted(asked))}) weigh 0 in the scoring to start from: "
            "there is nothing to fit",
            field="scoring",
        )
    weights = fitted_weights(usable, base.weights)
    apart = []
    for fold in range(FOLDS):
        others = [one for number, one in enumerate(usable) if number % FOLDS != fold]
        tried = fitted_weights(others, base.weights)
        apart += [in_order(one, tried) for one in usable[fold::FOLDS]]
    changes = {
        name: round(weights[name] / base.weights[name], 3) for name in sorted(asked) if base.weights[name] > 0
    }
    scoring = replace(base, weights=weights, per_kind={}, calibration=_calibrated(usable, base, weights))
    before = float(np.mean([in_order(one, base.weights) for one in usable]))
    return JudgedFit(scoring, before, float(np.mean(apart)), changes, len(usable), unseen)


def in_order(one: JudgedSignals, weights: Mapping[str, float]) -> float:
    """Share of the pairs of a good and a bad image in which the good one has the larger sum; ties a half."""
    vector = np.array([weights[name] for name in one.names])
    apart = (one.good @ vector)[:, None] - (one.bad @ vector)[None, :]
    return float((apart > 0).mean() + (apart == 0).mean() / 2)


def fitted_weights(judged: Sequence[JudgedSignals], base: Mapping[str, float]) -> dict[str, float]:
    """Pairwise logistic loss (RankNet, Burges et al. 2005) of good over bad images, every judgement counting
    the same. Weights that are 0, and those of parts that no query has, stay as they are; the scale is free in
    the fit and given back afterwards, since it ranks nothing."""
    from scipy.optimize import minimize

    names = sorted({name for one in judged for name in one.names if base[name] > 0})
    start = np.array([base[name] for name in names])
    apart = [_differences(one, names) for one in judged]

    def loss(x: NDArray[np.float64]) -> float:
        vector = np.exp(x[0]) * start * np.exp(x[1:])
        losses = [np.logaddexp(0.0, -(pairs @ vector)).mean() for pairs in apart]
        return float(np.mean(losses) + RIDGE * (x[1:] ** 2).sum())

    bounds = [(-MOST_CHANGE, MOST_CHANGE)] * (1 + len(names))
    change = minimize(loss, np.zeros(1 + len(names)), method="L-BFGS-B", bounds=bounds).x[1:]
    fitted = start * np.exp(change - change.mean())
    return {**base, **{name: round(float(w), 4) for name, w in zip(names, fitted, strict=True)}}


def _differences(one: JudgedSignals, names: Sequence[str]) -> NDArray[np.float64]:
    """(pairs, names) a good image's signals less a bad one's; 0 for parts that the query has not."""
    found = np.zeros((len(one.good) * len(one.bad), len(names)))
    for column, name in enumerate(names):
        if name in one.names:
            own = one.names.index(name)
            found[:, column] = (one.good[:, own][:, None] - one.bad[:, own][None, :]).ravel()
    return found


def _calibrated(judged: Sequence[JudgedSignals], base: Scoring, weights: Mapping[str, float]) -> Calibration:
    kinds: dict[QueryKind, KindCalibration] = {}
    for kind in QUERY_KINDS:
        own = [one for one in judged if one.kind == kind]
        before = base.calibration.kinds[kind]
        kinds[kind] = _fit_kind(own, base, weights) if len(own) >= LEAST_OF_KIND else before
    company = base.calibration.company
    unnamed = Calibration("", company, kinds).to_json()
    digest = hashlib.sha256(json.dumps([unnamed, dict(weights)], sort_keys=True).encode()).hexdigest()
    return Calibration(f"judged-{digest[:8]}", company, kinds)


def _fit_kind(
    judged: Sequence[JudgedSignals], base: Scoring, weights: Mapping[str, float]
) -> KindCalibration:
    """Intercept and slope, pulled to those before; what a word costs stays."""
    from scipy.optimize import minimize

    before = base.calibration.kinds[judged[0].kind]
    features, good, share = [], [], []
    for one in judged:
        vector = np.array([weights[name] for name in one.names])
        sums = np.concatenate([one.good, one.bad]) @ vector
        # By the new weights, as a search that uses them will find it.
        facts = one.facts(weights)
        words = np.full(len(sums), float(facts.further_words))
        above = sums - base.calibration.company * facts.company
        features.append(np.stack([np.ones(len(sums)), above, words], axis=1))
        good.append(np.repeat([1.0, 0.0], [len(one.good), len(one.bad)]))
        share.append(np.full(len(sums), 1.0 / (len(sums) * len(judged))))
    x, y, w = np.concatenate(features), np.concatenate(good), np.concatenate(share)
    prior = np.array([before.intercept, before.slope])

    def loss(free: NDArray[np.float64]) -> float:
        logits = x @ np.array([free[0], free[1], before.further_words])
        return float((w * (np.logaddexp(0.0, logits) - y * logits)).sum()) + float(
            CALIBRATION_RIDGE * ((free - prior) ** 2).sum()
        )

    found = minimize(loss, prior, method="L-BFGS-B", bounds=[(None, None), (0.01, None)]).x
    return KindCalibration(round(float(found[0]), 4), round(float(found[1]), 4), before.further_words)
