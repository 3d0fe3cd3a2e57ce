"""What the frozen parts make of a picture, remembered as far as memory goes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class FrozenFeatures:
    """Of one picture, on the CPU: neither network is trained, so they never change in a run.

    image_tokens: (n, hidden), of the vision tower. sam_embedding: (c, 64, 64), of SAM's image encoder.
    """

    image_tokens: torch.Tensor
    sam_embedding: torch.Tensor

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.image_tokens, self.sam_embedding))


class FeatureMemory:
    """The features of the pictures used last, `limit` bytes at most. Can be used by several threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._kept: OrderedDict[Hashable, FrozenFeatures] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, picture: Hashable) -> FrozenFeatures | None:
        with self._lock:
            if picture in self._kept:
                self._kept.move_to_end(picture)
            return self._kept.get(picture)

    def keep(self, picture: Hashable, features: FrozenFeatures) -> None:
        """Forgets those that were not used for longest; features over the limit are not kept at all."""
        with self._lock:
            if features.bytes > self._limit or picture in self._kept:
                return
            self._kept[picture] = features
            self._used += features.bytes
            while self._used > self._limit:
                self._used -= self._kept.popitem(last=False)[1].bytes
