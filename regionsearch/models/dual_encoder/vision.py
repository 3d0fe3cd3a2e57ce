"""Images and regions to unit vectors, in batches that fit the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from regionsearch.images import Image
from regionsearch.models.batching import batches_of_equal_size, run_halving
from regionsearch.models.dual_encoder.image_views import ImageViews, View
from regionsearch.models.dual_encoder.patch_grid import PatchGrid
from regionsearch.models.dual_encoder.towers import ImageTower
from regionsearch.models.embedder import Vector
from regionsearch.models.features import DenseFeatures
from regionsearch.models.transfer import to_device
from regionsearch.regions import Mask


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """Of one image: its own unit vector (d,) float32, and what regions are pooled from: features
    (p, c) of patches, on the device, lying in the image as the grid says."""

    source: str
    image: Vector
    patches: torch.Tensor
    grid: PatchGrid

    def part(self, source: str) -> DenseFeatures | None:
        return self if source == self.source else None


class VisionNetwork:
    """The image side of a dual encoder. Safe to use from several threads.

    source: names weights and settings. budget: tokens of one forward pass.
    """

    def __init__(
        self,
        tower: ImageTower,
        views: ImageViews,
        *,
        source: str,
        device: torch.device,
        dtype: torch.dtype,
        budget: int,
    ) -> None:
        self._tower = tower
        self._views = views
        self._source = source
        self._device = device
        self._dtype = dtype
        self._budget = budget

    @property
    def source(self) -> str:
        return self._source

    def features(self, images: Sequence[Image]) -> list[PatchFeatures]:
        """One pass an image, or two where the published picture of it leaves parts out."""
        published = [self._views.published(image) for image in images]
        whole = [self._views.whole(image) for image in images]
        # Where the two are one view, its single pass gives both.
        cut = [place for place, view in enumerate(whole) if view != published[place]]
        dense = self._encode(whole, patches=True)
        own = self._encode([published[place] for place in cut], patches=False)
        vectors = [vector for vector, _ in dense]
        for place, (vector, _) in zip(cut, own, strict=True):
            vectors[place] = vector
        return [
            PatchFeatures(self._source, vector, patches, self._views.grid(view))
            for view, vector, (_, patches) in zip(whole, vectors, dense, strict=True)
            if patches is not None
        ]

    def regions(self, features: PatchFeatures, masks: Sequence[Mask]) -> NDArray[np.float32]:
        """(n, d) float32 unit vectors, pooled from the patches under each mask."""
        shares = torch.from_numpy(features.grid.shares(masks)).to(features.patches.device)
        with torch.inference_mode():
            return _unit(self._tower.pool(features.patches, shares))

    def images(self, images: Sequence[Image]) -> list[Vector]:
        """(d,) float32 unit vectors of images as they are published to be read."""
        views = [self._views.published(image) for image in images]
        return [vector for vector, _ in self._encode(views, patches=False)]

    def crops(self, crops: Sequence[Image]) -> list[Vector]:
        """(d,) float32 unit vectors of regions cut out: all of each is seen, none of it is cut off."""
        views = [self._views.whole(crop) for crop in crops]
        return [vector for vector, _ in self._encode(views, patches=False)]

    def _encode(self, views: Sequence[View], *, patches: bool) -> list[tuple[Vector, torch.Tensor | None]]:
        def run(batch: Sequence[View]) -> list[tuple[Vector, torch.Tensor | None]]:
            pixels = to_device(
                torch.stack([self._views.pixels(view) for view in batch]), self._device, self._dtype
            )
            with torch.inference_mode():
                images, dense = self._tower.encode(pixels, [view.grid for view in batch], patches=patches)
                vectors = _unit(images)
            # A slice would keep the whole batch alive.
            kept = [None] * len(batch) if dense is None else [part.clone() for part in dense]
            return list(zip(vectors, kept, strict=True))

        encoded: list[tuple[Vector, torch.Tensor | None]] = [(np.empty(0, np.float32), None)] * len(views)
        for places in batches_of_equal_size([view.tokens for view in views], self._budget):
            for place, result in zip(places, run_halving([views[at] for at in places], run), strict=True):
                encoded[place] = result
        return encoded


def _unit(vectors: torch.Tensor) -> NDArray[np.float32]:
    """Normalised in double precision: the lengths of float32 vectors are then as near 1 as they can be."""
    exact = vectors.double()
    unit: NDArray[np.float32] = (exact / exact.norm(dim=-1, keepdim=True)).float().cpu().numpy()
    return unit
