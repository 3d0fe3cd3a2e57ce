"""What one filter has read of the records of one part of a view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection.fields.field_block import JoinedBlocks
from regionsearch.collection.fields.scanned_values import Scanning
from regionsearch.filters.expression import Condition, Field
from regionsearch.filters.value_column import ValueColumn

_GROWTHS = 4


class ReadOfPart:
    """The values of all fields that a filter must read, of the images that its conditions left open so far:
    each condition is answered from what the others have read, and none reads it again."""

    def __init__(
        self,
        scan: Scanning,
        fields: tuple[Field, ...],
        numbers: NDArray[np.int64],
        live: NDArray[np.bool_],
    ) -> None:
        """numbers: (m,) of the part's images, ascending. live: (m,), those that may be asked about."""
        self._scan = scan
        self._fields = fields
        self._numbers = numbers
        self._live = live
        self._read = np.zeros(len(numbers), bool)
        self._growths = 0
        self._values: dict[Field, dict[int, ValueColumn]] = {}
        self._joined: dict[Field, JoinedBlocks] = {}

    def truth(self, condition: Condition, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(m,) bool: of which images a condition holds; anything where not wanted. Raises as `Scanning`."""
        if (wanted & ~self._read).any():
            # Whatever a filter's shape, its fields are gone through a few times and not once a condition.
            self._growths += 1
            self._read |= wanted if self._growths < _GROWTHS else self._live
            self._values = self._scan.values(self._fields, self._numbers[self._read])
            self._joined = {}
        truth = np.zeros(len(wanted), bool)
        if self._values:
            joined = self._joined.get(condition.field)
            if joined is None:
                joined = self._joined[condition.field] = JoinedBlocks(self._values[condition.field])
            truth[self._read] = joined.truth(condition, self._numbers[self._read])
        return truth
