"""What every segmenter can do, and what all refuse alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image
from regionsearch.models.features import Backbone, DenseFeatures
from regionsearch.regions import Mask, RegionPrompt

DEFAULT_ENTITY_LIMIT = 32
"""Entities an image keeps unless the collection says otherwise."""
MAX_ENTITY_LIMIT = 1024


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

    def prompt(
        self,
        image: Image,
        region: RegionPrompt,
        features: DenseFeatures | None = None,
        *,
        refine: bool = False,
    ) -> Mask:
        """The mask that the region means, of the image's size.

        A box, mask or polygon means itself (clipped to the image); points mean the thing that holds
        all positive and no negative ones. With `refine` a box alone means the thing within it; the box
        itself where nothing of its own fits it.
        Raises InvalidRegion when nothing lies there, naming the point.
        """


def check_limit(limit: int) -> None:
    """Raises InvalidRequest for a limit that `Segmenter.propose` does not take."""
    if not 1 <= limit <= MAX_ENTITY_LIMIT:
        raise InvalidRequest(f"{limit} entities an image asked for; from 1 to {MAX_ENTITY_LIMIT} can be")


def check_features(images: Sequence[Image], features: Sequence[DenseFeatures], source: str) -> None:
    """Raises InvalidRequest unless the features are one an image, and those of a segmenter whose backbone
    has this source."""
    if len(features) != len(images):
        raise InvalidRequest(f"{len(images)} images came with {len(features)} features")
    for own in features:
        if own.source != source:
            raise InvalidRequest(
                f"features of {own.source!r} were handed to a segmenter that reads {source!r}"
            )
