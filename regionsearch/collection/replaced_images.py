"""Numbers that were buried lately: a search that began before a replacement still finds the image."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

_KEPT = 16_384


class ReplacedImages:
    """Whose the numbers were that replacements buried, the last 16,384 of them.

    The writer's thread remembers, any thread looks up; both are single steps under the interpreter's lock.
    """

    def __init__(self) -> None:
        self._ids: OrderedDict[int, str] = OrderedDict()

    def remember(self, buried: Sequence[tuple[int, str]]) -> None:
        """buried: (old number, image id)."""
        for number, image_id in buried:
            self._ids[number] = image_id
        while len(self._ids) > _KEPT:
            self._ids.popitem(last=False)

    def image_id(self, number: int) -> str | None:
        return self._ids.get(number)
