"""How much work a search may be: what `fast`, `balanced` and `thorough` set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regionsearch.search.calibration import COMPANY
from regionsearch.search.query import Preset, Query


@dataclass(frozen=True, slots=True)
class Effort:
    """candidates: distinct images that each arm brings at least. per_hit: at large limits, distinct images of
    each arm for every hit that is asked for. apart: with pixels and words together both arms are asked
    with each of them alone too, not only with their sum.
    """

    candidates: int
    per_hit: int
    apart: bool

    def first_width(self, hits: int) -> int:
        """Distinct images that each arm is asked for before `hits` of them are chosen."""
        return max(self.calibrating, self.per_hit * hits)

    @property
    def calibrating(self) -> int:
        """Distinct images of each arm that say how high a query's best sums are: the same however many hits
        are asked for, so that an image scores the same at every limit and on every page."""
        return max(self.candidates, COMPANY)


PRESET_EFFORTS: Mapping[Preset, Effort] = {
    # Two for every hit of the default limit: what lies further down in both arms is not seen.
    "fast": Effort(candidates=20, per_hit=1, apart=False),
    # Five for every hit of the default limit. Without asking apart, a third of the best answers to an entity
    # with words were missed (docs/benchmarks.md); docs/search.md says what each preset finds and costs.
    "balanced": Effort(candidates=50, per_hit=2, apart=True),
    "thorough": Effort(candidates=200, per_hit=4, apart=True),
}


def effort_of(query: Query) -> Effort:
    """What the preset says, its number of candidates replaced by the query's own."""
    preset = PRESET_EFFORTS[query.preset]
    if query.candidates is None:
        return preset
    return Effort(query.candidates, preset.per_hit, preset.apart)
