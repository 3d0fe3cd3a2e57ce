"""When payloads were changed in place: an image number alone does not tell that they were."""

from __future__ import annotations

from collections import OrderedDict

_KEPT = 65_536


class ChangedPayloads:
    """The generation of the last payload update of each number, for the 65,536 that were updated last.

    Of one open for writing, whose thread alone remembers and asks.
    """

    def __init__(self) -> None:
        self._generations: OrderedDict[int, int] = OrderedDict()
        self._forgotten = 0
        """The highest generation of an update that is not kept any more."""

    def remember(self, number: int, generation: int) -> None:
        self._generations[number] = generation
        self._generations.move_to_end(number)
        while len(self._generations) > _KEPT:
            _, generation = self._generations.popitem(last=False)
            self._forgotten = max(self._forgotten, generation)

    def since(self, number: int, generation: int) -> bool:
        """Whether its payload may have changed after a generation; False is certain."""
        return self._generations.get(number, self._forgotten) > generation
