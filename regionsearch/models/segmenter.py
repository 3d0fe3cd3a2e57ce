"""What every segmenter can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from regionsearch.entities import Entities
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.features import Backbone, DenseFeatures
from regionsearch.regions import Mask, RegionPrompt

DEFAULT_ENTITY_LIMIT = 32
"""Entities an image keeps unless the collection says otherwise."""


@dataclass(frozen=True, slots=True)
class SegmenterInfo:
    fingerprint: Fingerprint

    @property
    def name(self) -> str:
        return self.fingerprint.name


class Segmenter(Protocol):
    """Cuts images into entities, and turns a pointed-at region into a mask."""

    @property
    def info(self) -> SegmenterInfo: ...

    @property
    def backbone(self) -> Backbone | None:
        """What computes the features that the methods can be handed; None if it uses none."""

    def propose(
        self,
        images: Sequence[Image],
        features: Sequence[DenseFeatures] | None = None,
        limit: int = DEFAULT_ENTITY_LIMIT,
    ) -> list[Entities]:
        """At most `limit` (1 to 1,024) entities for each image, best first; masks have the size of
        their image. Where nothing is found, the whole frame is the one entity."""

    def prompt(self, image: Image, region: RegionPrompt, features: DenseFeatures | None = None) -> Mask:
        """The mask that the region means, of the image's size.

        A box, mask or polygon means itself (clipped to the image); points mean the thing that holds
        all positive and no negative ones.
        Raises InvalidRegion when nothing lies there, naming the point.
        """
