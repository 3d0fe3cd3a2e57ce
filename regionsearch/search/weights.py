"""The weights that combine the signals of joint scoring."""

from __future__ import annotations

import math
from collections.abc import Mapping

from regionsearch.errors import InvalidRequest
from regionsearch.search.query import PART_NAMES

# One set for all kinds of queries, on standardised signals. An entity speaks twice as loud as the image
# around it; words speak louder than pixels, since they say what the pixels cannot. docs/compact.md
# compares sets on two folders of photos.
DEFAULT_WEIGHTS: Mapping[str, float] = {
    "entity": 1.0,
    "global": 0.5,
    "text_entity": 1.5,
    "text_image": 0.75,
}
MAX_WEIGHT = 1_000.0


def resolve_weights(asked: Mapping[str, float]) -> dict[str, float]:
    """The default weights with those of a request put over them, by part name.

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
    return {**DEFAULT_WEIGHTS, **asked}
