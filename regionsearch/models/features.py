"""Dense features: what one network pass over an image leaves for everyone who can use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from regionsearch.images import Image


class DenseFeatures(Protocol):
    """Features of one image. `source` names the backbone, its weights and its preprocessing:
    features can be handed to a model whose own backbone has the same source."""

    @property
    def source(self) -> str: ...

    def part(self, source: str) -> DenseFeatures | None:
        """What a backbone of this source would give for the image, if this pass computed it: these
        features themselves, or a part of them. None if it did not."""


class Backbone(Protocol):
    """A network that reads whole images, in batches."""

    @property
    def source(self) -> str: ...

    def features(self, images: Sequence[Image]) -> Sequence[DenseFeatures]: ...
