"""The weights that combine the signals of joint scoring, as the package ships them."""

from __future__ import annotations

from collections.abc import Mapping

from regionsearch.search.scoring import MAX_WEIGHT as MAX_WEIGHT
from regionsearch.search.scoring import shipped_scoring

DEFAULT_WEIGHTS: Mapping[str, float] = shipped_scoring().weights
"""By part name; docs/fitting.md says how they were fitted."""


def resolve_weights(asked: Mapping[str, float]) -> Mapping[str, float]:
    """The default weights with those of a request put over them, by part name.

    Raises InvalidRequest on an unknown part and on a weight outside 0 to 1,000.
    """
    return shipped_scoring().profile(asked).weights
