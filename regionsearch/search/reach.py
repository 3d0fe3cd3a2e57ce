"""How high an image can score that no arm has brought.

An arm that brought its nearest rows says of all others that they are no nearer than the last of them. The
weighted sum is linear in the signals, its weights are at least 0, and no signal of an image lies above the
similarity of its nearest row: a soft maximum is at most the greatest cosine (`joint_scoring`). So the sum
has a bound; where not even that would reach the least score that is asked for, no further image can.

As sure as the arms are: an arm that searches approximately may have passed over a row that is nearer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from regionsearch.search.first_phase import ArmAnswers, Reach
from regionsearch.search.second_phase import Scorer

MOST = 1.0
"""Of a cosine of unit vectors, of an agreement, of an objectness."""
ROUNDING = 1e-4
"""Of a weighted sum: more than float32 similarities can be off by, over the least deviation."""


def highest_total(scorer: Scorer, answers: ArmAnswers, *, among_some: bool) -> float:
    """The greatest weighted sum of an image that the arms did not bring; -inf when there is none.

    among_some: whether the arms looked at some entities alone.
    """
    weights = scorer.profile.weights
    total = ROUNDING
    for name, most in _greatest(scorer, answers, among_some):
        if weights[name] > 0:
            signal = scorer.background[name]
            total += weights[name] * (most - signal.mean) / signal.deviation
    return total


def _greatest(scorer: Scorer, answers: ArmAnswers, among_some: bool) -> Iterator[tuple[str, float]]:
    """Each signal of the query with the greatest value that it can have."""
    question = scorer.question
    if len(question.regions):
        reaches = [_reach(answers.entity_reach, region) for region in question.regions]
        yield "entity", sum(reaches) / len(reaches)
    if question.text is not None:
        # Beside pixels the words look for any entity, also one that the arm was not allowed to bring.
        any_entity = among_some and len(question.regions) > 0
        yield "text_entity", MOST if any_entity else _reach(answers.entity_reach, question.text)
        yield "text_image", _reach(answers.global_reach, question.text)
    if question.image is not None:
        yield "global", _reach(answers.global_reach, question.image)
    yield "objectness", MOST
    if scorer.placements:
        yield "placement", MOST


def _reach(known: Reach, vector: NDArray[np.float32]) -> float:
    return min(MOST, known.get(vector.tobytes(), math.inf))
