"""What a dual encoder is shown of an image, and the pixels of it as its folder says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import transformers
from PIL import Image as Pillow
from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches

from regionsearch.errors import InvalidRequest, ModelUnavailable
from regionsearch.images import Image
from regionsearch.models.checkpoints import read_json
from regionsearch.models.crops import MAX_ELONGATION
from regionsearch.models.dual_encoder.patch_grid import PatchGrid
from regionsearch.models.dual_encoder.settings import Family, Settings

PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_PROCESSORS = {
    "clip": transformers.CLIPImageProcessorPil,
    "siglip": transformers.SiglipImageProcessorPil,
    "siglip2": transformers.Siglip2ImageProcessorPil,
}
_WRITTEN_AS = {"clip": ("CLIP",), "siglip": ("SiglipI", "SiglipF"), "siglip2": ("Siglip2",)}
"""How the names of each family's processors begin, through all versions (`CLIPFeatureExtractor`,
`SiglipImageProcessorFast`)."""


@dataclass(frozen=True, slots=True)
class View:
    """An image as the network sees it.

    side: (height, width) that the whole image is resized to; None is the middle square, as CLIP's authors
    cut it. grid: (rows, columns) of patches. tokens: of one forward pass.
    """

    image: Image
    side: tuple[int, int] | None
    grid: tuple[int, int]
    tokens: int


class ImageViews(Protocol):
    """Makes views and their pixels. Two equal views of an image have equal pixels."""

    def published(self, image: Image) -> View:
        """What the image's own vector is made of."""

    def whole(self, image: Image) -> View:
        """All of the image, for its regions."""

    def grid(self, view: View) -> PatchGrid:
        """Where the patches of a whole view lie in its image."""

    def pixels(self, view: View) -> torch.Tensor:
        """float32: (3, height, width), or (patches, 3 × patch²) for NaFlex."""


def load_views(folder: Path, family: Family, vision: Any, settings: Settings) -> ImageViews:
    """vision: the model's own `vision_config`.

    Raises ModelUnavailable when the folder's preprocessing is missing, is another model's, or does not give
    what the model reads; InvalidRequest for `pixels` smaller than a patch.
    """
    processor = _load_processor(folder, family)
    if family == "siglip2":
        return FlexibleViews(processor, vision, settings)
    return SquareViews(processor, family, vision, settings, folder)


class SquareViews:
    """CLIP and SigLIP: the network reads squares of one size.

    SigLIP squeezes an image into the square. CLIP's authors bring its shorter side to the square's and cut
    the middle out; what lies outside has no patches, so that regions are read from the squeezed image
    instead. Where both are the same picture (a square image), they are one view.
    """

    def __init__(self, processor: Any, family: Family, vision: Any, settings: Settings, folder: Path) -> None:
        self._processor = processor
        self._patch = int(vision.patch_size)
        self._side = int(vision.image_size)
        self._region_side = settings.pixels or self._side
        self._squeezes = settings.frame == "squeeze" or not getattr(processor, "do_center_crop", False)
        self._class_tokens = int(family == "clip")
        if self._region_side < self._patch:
            raise InvalidRequest(
                f"pixels={self._region_side} is smaller than a patch, {self._patch} pixels", field="embedder"
            )
        probe = View(Image(np.zeros((2, 3, 3), np.uint8)), None, (1, 1), 1)
        given = tuple(self.pixels(probe).shape)
        if given != (3, self._side, self._side):
            raise ModelUnavailable(
                f"the preprocessing in {folder} gives pixels of shape {given}, the model reads "
                f"(3, {self._side}, {self._side})"
            )

    def published(self, image: Image) -> View:
        if self._squeezes or self._cuts_nothing(image):
            return self._view(image, self._side, cut=False)
        return self._view(image, self._side, cut=True)

    def whole(self, image: Image) -> View:
        return self._view(image, self._region_side, cut=False)

    def grid(self, view: View) -> PatchGrid:
        if view.side is None:
            raise ValueError("the middle square of an image has no patches for all of its regions")
        return PatchGrid.over(view.image.height, view.image.width, side=view.side, patch=self._patch)

    def pixels(self, view: View) -> torch.Tensor:
        asked: dict[str, Any] = {}
        if view.side is not None:
            asked = {"size": {"height": view.side[0], "width": view.side[1]}, "do_resize": True}
            if hasattr(self._processor, "do_center_crop"):
                asked["do_center_crop"] = False
        image = view.image if view.side is not None else _middle(view.image)
        return _processed(self._processor, image, asked)["pixel_values"][0]

    def _view(self, image: Image, side: int, *, cut: bool) -> View:
        patches = side // self._patch
        return View(image, None if cut else (side, side), (patches, patches), patches**2 + self._class_tokens)

    def _cuts_nothing(self, image: Image) -> bool:
        size, crop = self._processor.size, self._processor.crop_size
        cut = (crop["height"], crop["width"])
        if size.get("height") is not None:
            return (size["height"], size["width"]) == cut
        return image.height == image.width and (size.get("shortest_edge"),) * 2 == cut


class FlexibleViews:
    """NaFlex: the network reads all of an image in its own aspect, cut into a bounded number of patches."""

    def __init__(self, processor: Any, vision: Any, settings: Settings) -> None:
        self._processor = processor
        self._patch = int(vision.patch_size)
        self._patches = settings.patches or int(processor.max_num_patches)
        if processor.patch_size != self._patch:
            raise ModelUnavailable(
                f"the preprocessing cuts patches of {processor.patch_size} pixels, "
                f"the model reads {self._patch}"
            )

    def published(self, image: Image) -> View:
        side = get_image_size_for_max_num_patches(image.height, image.width, self._patch, self._patches)
        grid = (side[0] // self._patch, side[1] // self._patch)
        return View(image, side, grid, grid[0] * grid[1])

    def whole(self, image: Image) -> View:
        return self.published(image)

    def grid(self, view: View) -> PatchGrid:
        side = (view.grid[0] * self._patch, view.grid[1] * self._patch)
        return PatchGrid.over(view.image.height, view.image.width, side=side, patch=self._patch)

    def pixels(self, view: View) -> torch.Tensor:
        processed = _processed(self._processor, view.image, {"max_num_patches": self._patches})
        # The processor pads to the most patches; batches here are of one length, so nothing needs it.
        return processed["pixel_values"][0, : view.tokens]


def _middle(image: Image) -> Image:
    """Of an image that is longer than MAX_ELONGATION times its shorter side, that much around its middle.

    The processor enlarges all of an image before it cuts the middle square out of it: one pixel by sixty
    thousand would become nine gigabytes.
    """
    most = math.ceil(MAX_ELONGATION * min(image.height, image.width))
    rows, columns = _around(image.height, most), _around(image.width, most)
    if rows.start == columns.start == 0:
        return image
    return Image(np.ascontiguousarray(image.pixels[rows, columns]))


def _around(length: int, most: int) -> slice:
    """About the `most` middle ones of `length` pixels, about the same middle."""
    start = max(0, (length - most) // 2)
    return slice(start, length - start)


def _processed(processor: Any, image: Image, asked: dict[str, Any]) -> Any:
    return processor(Pillow.fromarray(image.pixels), return_tensors="pt", **asked)


def _load_processor(folder: Path, family: Family) -> Any:
    files = preprocessor_files(folder)
    if not files:
        raise ModelUnavailable(f"{folder} does not say how images are prepared: no {PREPROCESSOR_FILES[0]}")
    said = read_json(files[0])
    said = said.get("image_processor", said)
    name = said.get("image_processor_type") or said.get("feature_extractor_type")
    if name is not None and not str(name).startswith(_WRITTEN_AS[family]):
        raise ModelUnavailable(f"{files[0]} is for {name}, which is not how {family} prepares images")
    try:
        return _PROCESSORS[family].from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelUnavailable(f"{files[0]} cannot be read: {error}") from error


def preprocessor_files(folder: Path) -> list[Path]:
    """Those that say how images are prepared; none when there are none."""
    return [folder / name for name in PREPROCESSOR_FILES if (folder / name).exists()]
