"""The questions of one kind, and the measures and intervals by which their answers are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.evaluation.bootstrap import interval, mean_of_groups
from regionsearch.evaluation.coco_questions import Question
from regionsearch.evaluation.photo_index import Ranking
from regionsearch.evaluation.ranking_metrics import (
    CALIBRATION_HITS,
    average_precision,
    expected_calibration_error,
    precision_at,
)

Measure = Callable[[NDArray[np.bool_], NDArray[np.int64]], NDArray[np.float64]]

RANKING_MEASURES: Mapping[str, Measure] = {
    "map": average_precision,
    "p1": lambda relevant, weights: precision_at(1, relevant, weights),
    "p5": lambda relevant, weights: precision_at(5, relevant, weights),
}
CAPTION_MEASURES: Mapping[str, Measure] = {
    "r1": lambda relevant, weights: precision_at(1, relevant, weights),
    "r5": lambda relevant, weights: precision_at(5, relevant, weights),
    "r10": lambda relevant, weights: precision_at(10, relevant, weights),
}


@dataclass(frozen=True, eq=False)
class Block:
    """The questions of one kind about a set of photos.

    numbers: by image_id the photo's place in the order of ids, as rankings name it.
    weights: (1 + draws, images) int64; the first row is the photos as they are, each once.
    """

    questions: Sequence[Question]
    numbers: Mapping[str, int]
    weights: NDArray[np.int64]

    @property
    def groups(self) -> NDArray[np.int64]:
        names = {name: number for number, name in enumerate(dict.fromkeys(q.group for q in self.questions))}
        return np.array([names[question.group] for question in self.questions], dtype=np.int64)

    def left_out(self, question: Question) -> int | None:
        return None if question.left_out is None else self.numbers[question.left_out]

    def relevance(self, question: Question, ranking: Ranking) -> NDArray[np.bool_]:
        """(ranked,) whether each photo of the ranking answers the question."""
        answers = np.zeros(len(self.numbers), dtype=np.bool_)
        answers[[self.numbers[image_id] for image_id in question.relevant]] = True
        return answers[ranking.order]

    def source_weights(self) -> NDArray[np.float64]:
        """(1 + draws, questions): how often the photo that each question comes from was drawn."""
        weights = np.ones((len(self.weights), len(self.questions)))
        for column, question in enumerate(self.questions):
            if question.image_id is not None:
                weights[:, column] = self.weights[:, self.numbers[question.image_id]]
        return weights

    def measure(self, rankings: Sequence[Ranking], measure: Measure) -> NDArray[np.float64]:
        """(1 + draws,): the measure's mean over groups, for the photos as they are and for each draw."""
        values = np.empty((len(self.weights), len(self.questions)))
        for column, (question, ranking) in enumerate(zip(self.questions, rankings, strict=True)):
            values[:, column] = measure(self.relevance(question, ranking), self.weights[:, ranking.order])
        return mean_of_groups(values, self.source_weights(), self.groups)

    def measure_sources(self, rankings: Sequence[Ranking], measure: Measure) -> NDArray[np.float64]:
        """As `measure`, but a draw counts photos as sources of questions alone, not as retrieved.

        For questions with a single answer: without the photos that are missing from a draw it would be
        found sooner than it ever was, and the interval would lie above the figure itself.
        """
        once = np.ones((1, len(self.numbers)), dtype=np.int64)
        values = np.empty((len(self.weights), len(self.questions)))
        for column, (question, ranking) in enumerate(zip(self.questions, rankings, strict=True)):
            values[:, column] = measure(self.relevance(question, ranking), once[:, ranking.order])
        return mean_of_groups(values, self.source_weights(), self.groups)

    def chance(self) -> float | None:
        """The mean share of the ranked photos that is relevant: mAP of a shuffled ranking, nearly."""
        images = len(self.numbers)
        shares = [len(q.relevant) / (images - (q.left_out is not None)) for q in self.questions]
        return float(np.mean(shares)) if shares else None

    def calibration_error(self, rankings: Sequence[Ranking]) -> float | None:
        scores = [ranking.scores[:CALIBRATION_HITS] for ranking in rankings]
        relevant = [
            self.relevance(question, ranking)[: len(ranking.scores)][:CALIBRATION_HITS]
            for question, ranking in zip(self.questions, rankings, strict=True)
        ]
        if not scores:
            return None
        return expected_calibration_error(np.concatenate(scores), np.concatenate(relevant))


def ranking_figures(block: Block, rankings: Sequence[Ranking]) -> dict[str, NDArray[np.float64]]:
    return {name: block.measure(rankings, measure) for name, measure in RANKING_MEASURES.items()}


def shown(figures: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """A mode's figures with their intervals; the interval of `map` is called `ci95`."""
    values: dict[str, Any] = {}
    for name, draws in figures.items():
        values[name] = number(draws[0])
        values["ci95" if name == "map" else f"{name}_ci95"] = interval(draws[1:])
    return values


def ratio(
    figures: Mapping[str, NDArray[np.float64]], baselines: Sequence[Mapping[str, NDArray[np.float64]]]
) -> dict[str, Any]:
    """A mode against a baseline, by mAP and by P@1; of several baselines the one better by that measure.

    Draws are paired: each divides figures of the same photos.
    """
    values: dict[str, Any] = {}
    for name in ("map", "p1"):
        best = max((baseline[name] for baseline in baselines), key=lambda draws: np.nan_to_num(draws[0]))
        ratios = np.divide(figures[name], best, out=np.full(len(best), np.nan), where=best > 0)
        values[name] = number(ratios[0])
        values[f"{name}_ci95"] = interval(ratios[1:])
    return values


def number(value: np.float64) -> float | None:
    """A figure for JSON: None where it is undefined."""
    return float(value) if np.isfinite(value) else None
