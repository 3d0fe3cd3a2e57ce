"""The segmented things of one image, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRecord
from regionsearch.regions import Box, Mask

LABEL_SOURCES = ("given", "predicted")


@dataclass(frozen=True, eq=False)
class Entities:
    """The n entities of one image, in the order of their ordinals (`entity.index`), n at least 1.

    masks: n masks of the image's own size (upright pixels).
    boxes: (n, 4) float32, pixels, [x0, y0, x1, y1) of each mask or as annotated.
    areas: (n,) float32, mask pixels over image pixels, in (0, 1].
    objectness: (n,) float32, 0 to 1, how much like a thing of its own.
    labels: n labels or None; label_sources: `given` or `predicted` where there is a label.

    The arrays are converted to float32 where they are not, and read-only.
    Raises InvalidRecord when lengths, shapes, ranges or the sizes of the masks disagree.
    """

    masks: tuple[Mask, ...]
    boxes: NDArray[np.float32]
    areas: NDArray[np.float32]
    objectness: NDArray[np.float32]
    labels: tuple[str | None, ...]
    label_sources: tuple[str | None, ...]

    def __post_init__(self) -> None:
        count = len(self.masks)
        if count < 1:
            raise InvalidRecord("an image has at least one entity (the whole frame when nothing else)")
        for name in ("boxes", "areas", "objectness"):
            values = np.asarray(getattr(self, name), dtype=np.float32).view()
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        sizes = {(mask.height, mask.width) for mask in self.masks}
        if len(sizes) > 1:
            raise InvalidRecord(f"masks of one image have different sizes (height, width): {sorted(sizes)}")
        shapes = (self.boxes.shape, self.areas.shape, self.objectness.shape)
        if shapes != ((count, 4), (count,), (count,)):
            raise InvalidRecord(f"{count} masks, but boxes, areas and objectness have shapes {shapes}")
        if len(self.labels) != count or len(self.label_sources) != count:
            raise InvalidRecord(
                f"{count} masks, but {len(self.labels)} labels, {len(self.label_sources)} sources"
            )
        for label, source in zip(self.labels, self.label_sources, strict=True):
            named = isinstance(label, str)
            if source not in (LABEL_SOURCES if named else (None,)) or not (named or label is None):
                raise InvalidRecord(f"label {label!r} with source {source!r}")
        if not (np.isfinite(self.boxes).all() and (self.boxes[:, 2:] > self.boxes[:, :2]).all()):
            raise InvalidRecord("an entity's box is empty or not finite")
        if not ((self.areas > 0).all() and (self.areas <= 1).all()):
            raise InvalidRecord("an entity's area is outside (0, 1]")
        if not ((self.objectness >= 0).all() and (self.objectness <= 1).all()):
            raise InvalidRecord("an entity's objectness is outside 0 to 1")

    def __len__(self) -> int:
        return len(self.masks)

    @staticmethod
    def from_masks(masks: Sequence[Mask], objectness: NDArray[np.float32]) -> Entities:
        """Unlabelled entities; boxes and areas follow from the masks.

        objectness: (n,), 0 to 1. Raises InvalidRegion if a mask is empty, InvalidRecord as above.
        """
        return Entities(
            masks=tuple(masks),
            boxes=np.array([mask.box().as_tuple() for mask in masks], dtype=np.float32).reshape(-1, 4),
            areas=np.array([mask.area for mask in masks], dtype=np.float32),
            objectness=np.asarray(objectness, dtype=np.float32),
            labels=(None,) * len(masks),
            label_sources=(None,) * len(masks),
        )

    @staticmethod
    def from_boxes(
        boxes: NDArray[np.float32],
        height: int,
        width: int,
        objectness: NDArray[np.float32] | None = None,
        labels: Sequence[str | None] | None = None,
    ) -> Entities:
        """For a detector that knows boxes alone: the mask of each is its box.

        boxes: (n, 4), pixels, [x0, y0, x1, y1), within the image of height × width pixels. objectness:
        (n,), 0 to 1; 1 where it is not given. labels: n, their source is `given`.
        Raises InvalidRegion if a box is empty or outside the image, InvalidRecord as above.
        """
        rows = np.asarray(boxes, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != 4:
            raise InvalidRecord(f"boxes have shape {rows.shape}; (n, 4) are taken")
        masks = [Mask.from_box(Box(*row), height, width) for row in rows.tolist()]
        named = (None,) * len(masks) if labels is None else tuple(labels)
        return Entities(
            masks=tuple(masks),
            boxes=rows,
            areas=np.array([mask.area for mask in masks], dtype=np.float32),
            objectness=np.ones(len(masks), np.float32) if objectness is None else objectness,
            labels=named,
            label_sources=tuple(None if label is None else "given" for label in named),
        )

    @staticmethod
    def whole_frame(height: int, width: int) -> Entities:
        """The one entity of an image in which the segmenter found nothing."""
        return Entities.from_masks([Mask.full(height, width)], np.zeros(1, dtype=np.float32))
