"""What indexing an image costs, told from its shape before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from regionsearch.models.virtue.rows import Row, batches


@dataclass(frozen=True, slots=True)
class IndexingCost:
    """Of one image indexed alone; several together share passes of the language model.

    vision_passes, vision_patches: of Qwen2-VL's tower; the picture is read once, whatever its entities.
    sam_passes: of SAM's image encoder, always over 1024 × 1024 pixels.
    prompts: that go through SAM's mask decoder, the reducer and the connector: the grid for the image,
        a box for each entity.
    language_passes: of the language model, each with the decoder pass of its prompts before it.
    language_tokens: in all of these passes together.
    """

    vision_passes: int
    vision_patches: int
    sam_passes: int
    prompts: int
    language_passes: int
    language_tokens: int


def indexing_cost(rows: Sequence[Row], segment_tokens: int, budget: int, vision_patches: int) -> IndexingCost:
    """rows: of one image and its entities. budget: tokens of a pass. vision_patches: of the picture."""
    return IndexingCost(
        vision_passes=1,
        vision_patches=vision_patches,
        sam_passes=1,
        prompts=len(rows),
        language_passes=len(batches(rows, segment_tokens, budget)),
        language_tokens=sum(row.length(segment_tokens) for row in rows),
    )
