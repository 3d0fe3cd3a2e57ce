"""Pictures in the forms that people have them in, as the encoded bytes that travel."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidImage
from regionsearch.images import encode_png, image_from_pillow
from regionsearch.protobuf_shapes import at_field

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

Picture: TypeAlias = "str | Path | bytes | PilImage | NDArray[np.uint8]"
"""A file's path, its encoded bytes, a PIL image, or an array (height, width), (height, width, 3) RGB or
(height, width, 4) RGBA of uint8."""

# Lossless, and a third of the default's time for a tenth more bytes: encoding costs more than sending.
_PNG_LEVEL = 1


def encoded(picture: Picture) -> bytes:
    """The bytes to send. Files and bytes go as they are, so that their EXIF orientation stays; PIL
    images and arrays become PNG, lossless. A PIL image is turned upright as its file would be, so that
    coordinates mean the same for both.

    Raises InvalidImage, naming the file, for one that cannot be read, or for what is no picture.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, str | Path):
        try:
            return Path(picture).read_bytes()
        except OSError as error:
            raise InvalidImage(f"cannot read {str(picture)!r}: {error.strerror}", field="image") from error
    if isinstance(picture, np.ndarray):
        return _png(picture)
    from PIL.Image import Image

    if isinstance(picture, Image):
        with at_field("image"):
            # Limits are the server's to judge.
            return encode_png(image_from_pillow(picture, max_megapixels=math.inf))
    raise InvalidImage(
        f"a {type(picture).__name__} is no picture: give a path, bytes, a PIL image or an array",
        field="image",
    )


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    plane = pixels.ndim == 2
    if pixels.dtype != np.uint8 or not (plane or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise InvalidImage(
            f"the array has shape {pixels.shape} and type {pixels.dtype}; a picture is (height, width), "
            "(height, width, 3) or (height, width, 4) of uint8",
            field="image",
        )
    if pixels.size == 0:
        raise InvalidImage(f"the array has shape {pixels.shape}: there is no pixel in it", field="image")
    target = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(target, "PNG", compress_level=_PNG_LEVEL)
    return target.getvalue()
