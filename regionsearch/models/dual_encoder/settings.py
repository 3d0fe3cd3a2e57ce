"""What can be chosen about a dual encoder, by the options of its reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from regionsearch.errors import InvalidRequest
from regionsearch.models.crops import DEFAULT_CONTEXT, MAX_CONTEXT
from regionsearch.models.reference import ModelReference

Family = Literal["clip", "siglip", "siglip2"]
"""By `model_type`. `siglip` also holds the SigLIP 2 checkpoints of one resolution; `siglip2` is NaFlex."""
Regions = Literal["mask_pooling", "crop"]
Frame = Literal["published", "squeeze"]

_OPTIONS: Mapping[Family, tuple[str, ...]] = {
    "clip": ("context", "frame", "pixels", "regions"),
    "siglip": ("context", "pixels", "regions"),
    "siglip2": ("context", "patches", "regions"),
}
_MOST_PIXELS = 4096
_MOST_PATCHES = 16_384


@dataclass(frozen=True, slots=True)
class Settings:
    """regions: `mask_pooling` of one pass over the image, or one pass a `crop`.

    context: margin of a crop, a share of the box's sides. frame (CLIP): `published` cuts the middle square
    out of an image for its own vector, as its authors do; `squeeze` shows the whole image as a square.
    pixels (CLIP, SigLIP): side of the square that regions are pooled from; None is the checkpoint's own.
    patches (NaFlex): the most an image is cut into; None is what the folder says.
    """

    regions: Regions = "mask_pooling"
    context: float = DEFAULT_CONTEXT
    frame: Frame = "published"
    pixels: int | None = None
    patches: int | None = None

    @staticmethod
    def of(reference: ModelReference, family: Family) -> Settings:
        """Raises InvalidRequest, naming the option, for one that this family has not, one out of range, or
        one that the kind of regions makes meaningless."""
        reference.check_options(dict.fromkeys(_OPTIONS[family]))
        regions: Regions = (
            "crop" if reference.choice("regions", ("mask_pooling", "crop")) == "crop" else "mask_pooling"
        )
        idle = "pixels" if regions == "crop" else "context"
        if idle in reference.options:
            raise InvalidRequest(
                f"option {idle!r} of model {reference.kind!r} means nothing with regions={regions}",
                field="embedder",
            )

        def whole(name: str, most: int) -> int | None:
            return reference.whole(name, 1, 1, most) if name in reference.options else None

        squeezed = reference.choice("frame", ("published", "squeeze")) == "squeeze"
        return Settings(
            regions=regions,
            context=reference.number("context", DEFAULT_CONTEXT, 0, MAX_CONTEXT),
            frame="squeeze" if squeezed else "published",
            pixels=whole("pixels", _MOST_PIXELS),
            patches=whole("patches", _MOST_PATCHES),
        )
