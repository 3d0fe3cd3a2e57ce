"""The one safe door for pixels: decode, orient, limit.

Everything that becomes an `Image` passes here, from files, bytes, arrays or Pillow pictures, and comes
out upright, RGB, 8 bits a channel. There is one way to decode, without a decoder's own shrinking, so
that coordinates are those of the upright picture, always. Decisions:

* JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF are read, told apart by their first bytes; nothing else is,
  and no format that runs another program. Of an animation or a multi-picture file, the first frame.
* EXIF orientation is applied, as Pillow does it (including its fallback to XMP's).
* Transparent pixels lie on white.
* 16 bits become 8 by rounding value / 257 (colour PNG and TIFF: by their upper byte, Pillow's way).
* ICC profiles are ignored: the numbers are taken as sRGB. CMYK is converted by Pillow's formula.
* The number of pixels is read from the header and compared with the limit before any is decoded.
  For WebP and TIFF, Pillow's own limit (`PIL.Image.MAX_IMAGE_PIXELS`, twice 89 million) stays as well.
"""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, ImageFile, features
from PIL import Image as Pillow

from regionsearch.errors import InvalidImage, OutOfMemory

DEFAULT_MAX_MEGAPIXELS = 64.0
"""200 MB of decoded pixels; cameras with more are rare."""
DEFAULT_MAX_BYTES = 256 * 1024 * 1024
"""An uncompressed TIFF of 64 megapixels fits."""
MASK_LEVEL = 128
"""Of 0 to 255: from here on a pixel of a mask's file counts as bright, and as opaque."""
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF")

_TRANSPOSITIONS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
"""What makes a picture of this EXIF orientation upright."""
_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True, eq=False)
class Image:
    """An upright RGB picture: pixels (height, width, 3) uint8, C-contiguous, read-only.

    Raises InvalidImage if the pixels are of another shape or dtype, or there are none.
    """

    pixels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise InvalidImage(f"pixels are {dtype} of shape {shape}; uint8 of (height, width, 3) is needed")
        pixels = np.ascontiguousarray(self.pixels).view()
        pixels.setflags(write=False)
        object.__setattr__(self, "pixels", pixels)

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])


def decode_image(
    data: bytes,
    name: str = "image",
    *,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Image:
    """The picture in an encoded file's bytes.

    name: what errors call it. max_megapixels: millions of pixels. max_bytes: of `data`.
    Raises InvalidImage, which names the file and the reason: not an image of a known format, truncated
    or damaged, over a limit, or with pixels that have no defined white (32-bit integers, LAB).
    Raises OutOfMemory if there is none left to decode it.
    """
    header = _load(data, name, max_megapixels, max_bytes)
    return _upright(header.picture, header.orientation, name)


def decode_mask(
    data: bytes,
    name: str = "mask",
    *,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> NDArray[np.bool_]:
    """The mask that an encoded picture, mostly a PNG, draws: (height, width) bool of the upright picture.

    A pixel belongs to it when it is bright (its brightest channel is MASK_LEVEL or more, colours as
    written, not laid on anything) and opaque (its alpha, if there is one, is MASK_LEVEL or more).
    Raises as `decode_image` does.
    """
    header = _load(data, name, max_megapixels, max_bytes)
    if not _has_transparency(header.picture):
        pixels = _upright(header.picture, header.orientation, name).pixels
        drawn: NDArray[np.bool_] = pixels.max(axis=2) >= MASK_LEVEL
        return drawn
    with _blamed_on_the_file(name):
        samples = np.asarray(_turned(_with_alpha(header.picture), header.orientation))
    bright: NDArray[np.bool_] = samples[:, :, :3].max(axis=2) >= MASK_LEVEL
    return bright & (samples[:, :, 3] >= MASK_LEVEL)


def load_image(
    path: Path,
    *,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Image:
    """The picture in a file. Raises as `decode_image` does, and InvalidImage for a file that is not
    there, not readable, or not a regular file."""
    data = read_image_file(path, max_bytes=max_bytes)
    return decode_image(data, str(path), max_megapixels=max_megapixels, max_bytes=max_bytes)


def read_image_file(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """An image file's bytes, not decoded yet. Raises InvalidImage, naming the file and the reason."""
    try:
        if not path.is_file():
            raise InvalidImage(f"image {str(path)!r} is {'not a regular' if path.exists() else 'no'} file")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise _too_many_bytes(str(path), path.stat().st_size, max_bytes)
    except OSError as error:
        raise InvalidImage(f"image {str(path)!r} cannot be read: {error.strerror}") from error
    return data


def image_size(data: bytes, name: str = "image") -> tuple[int, int]:
    """(height, width) in pixels of the upright picture, from the file's header alone; no limit applies.

    Raises InvalidImage if the header cannot be read.
    """
    header = _read_header(data, name)
    return (header.height, header.width)


def image_from_array(
    pixels: NDArray[Any], name: str = "array", *, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
) -> Image:
    """The picture in an array of (height, width), (height, width, 1), (…, 3: RGB) or (…, 4: RGBA).

    uint8; uint16, 0 to 65,535; or floats, 0 to 1. Transparent pixels are laid on white.
    Raises InvalidImage for another shape or dtype, floats outside 0 to 1 or not finite, or too many pixels.
    """
    described = f"{pixels.dtype} of shape {pixels.shape}"
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise InvalidImage(
            f"image {name!r} is {described}; (height, width) or (height, width, 1, 3 or 4) is needed"
        )
    _check_size(pixels.shape[0], pixels.shape[1], name, max_megapixels)
    if pixels.dtype.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise InvalidImage(f"image {name!r} has floats outside 0 to 1: {pixels.min()} to {pixels.max()}")
        samples = np.rint(pixels * np.float32(255)).astype(np.uint8)
    elif pixels.dtype == np.uint16:
        samples = _eight_bits(pixels)
    elif pixels.dtype == np.uint8:
        samples = pixels
    else:
        raise InvalidImage(f"image {name!r} is {described}; uint8, uint16 or floats are needed")
    if samples.ndim == 2:
        samples = samples[:, :, None]
    if samples.shape[2] == 4:
        return _upright(Pillow.fromarray(np.ascontiguousarray(samples)), 1, name)
    # A copy: the caller may go on to write to its array.
    return Image(np.array(np.broadcast_to(samples, (*samples.shape[:2], 3)), order="C"))


def image_from_pillow(
    picture: Pillow.Image, name: str = "picture", *, max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
) -> Image:
    """A Pillow picture (its current frame), made upright as a file is. Raises as `decode_image` does."""
    _check_size(picture.height, picture.width, name, max_megapixels)
    with _blamed_on_the_file(name), _without_warnings():
        picture.load()
        orientation = _orientation_of(picture)
    return _upright(picture, orientation, name)


def thumbnail_jpeg(image: Image, longest_side: int = 320, quality: int = 85) -> bytes:
    """JPEG of the picture, its longest side at most so many pixels; never enlarged.

    longest_side: 1 to 65,500 (JPEG's own limit). quality: 1 to 95, in Pillow's terms.
    """
    scale = min(1.0, longest_side / max(image.height, image.width))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    picture = Pillow.fromarray(image.pixels)
    if size != picture.size:
        picture = picture.resize(size, Pillow.Resampling.LANCZOS, reducing_gap=3.0)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def encode_png(image: Image) -> bytes:
    """PNG of the picture: every pixel as it is, for what reaches the service as pixels and not as a file."""
    stream = io.BytesIO()
    # Level 1 is three times quicker than the default and 10% larger.
    Pillow.fromarray(image.pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def content_hash(data: bytes) -> str:
    """sha256 of the encoded bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, eq=False)
class _Header:
    """An opened file, not decoded yet, and what its header says. height and width: upright pixels."""

    picture: ImageFile.ImageFile
    height: int
    width: int
    orientation: int
    """EXIF orientation that is still to be applied after decoding, 1 to 8."""
    may_warn: bool
    """Whether decoding, too, can issue warnings."""


def _load(data: bytes, name: str, max_megapixels: float, max_bytes: int) -> _Header:
    """The file with its pixels decoded, after its limits were checked."""
    if len(data) > max_bytes:
        raise _too_many_bytes(name, len(data), max_bytes)
    header = _read_header(data, name)
    _check_size(header.height, header.width, name, max_megapixels)
    with _blamed_on_the_file(name), _without_warnings() if header.may_warn else nullcontext():
        header.picture.load()
    return header


def _read_header(data: bytes, name: str) -> _Header:
    if not data:
        raise InvalidImage(f"image {name!r} is empty (0 bytes)")
    kind = _format_of(data)
    if kind is None:
        raise InvalidImage(f"image {name!r} is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file")
    reader = _readers().get(kind)
    if reader is None:
        raise InvalidImage(f"image {name!r} is {kind}, which the installed Pillow was built without")
    with _blamed_on_the_file(name), _without_warnings():
        picture = reader(io.BytesIO(data))
        width, height = picture.size
        if kind == "PNG" and "exif" not in picture.info and (behind_pixels := _png_exif(data)):
            picture.info["exif"] = behind_pixels
        orientation = _orientation_of(picture)
    if height < 1 or width < 1:
        raise InvalidImage(f"image {name!r} has no pixels: {width} × {height}")
    if kind == "TIFF":
        orientation = 1  # Pillow's reader of TIFF applies it itself, in the size already
    elif orientation in _SIDEWAYS:
        width, height = height, width
    return _Header(picture, height, width, orientation, kind == "TIFF" or b"acTL" in data)


def _orientation_of(picture: Pillow.Image) -> int:
    """EXIF orientation, 1 to 8; 1 (upright) where there is none, or none that can be read: damaged
    metadata is no reason to refuse sound pixels."""
    try:
        # Not `picture.getexif`: that of PNG decodes the picture first, before any limit is checked.
        orientation = Pillow.Image.getexif(picture).get(ExifTags.Base.Orientation, 1)
    except (struct.error, SyntaxError, LookupError, TypeError, ValueError, EOFError, ZeroDivisionError):
        return 1
    return orientation if orientation in _TRANSPOSITIONS else 1


def _png_exif(data: bytes) -> bytes:
    """The content of a PNG's `eXIf` chunk, wherever it lies (PNG 1.5 extensions, 3.7); b"" without one."""
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"eXIf":
            return b"Exif\0\0" + data[place + 8 : place + 8 + length]
        place += 12 + length
    return b""


def _format_of(data: bytes) -> str | None:
    """The format that the first bytes announce, one of FORMATS."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"mif1", b"msf1"):
        return "AVIF"
    return None


@cache
def _readers() -> dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]]:
    """Pillow's reader of each format. They are called directly because `PIL.Image.open` compares every
    picture with a limit that is global to the process, and warns or refuses by that one."""
    from PIL import (  # each costs some milliseconds to import
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
    )

    readers: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
    }
    if features.check("webp"):
        from PIL import WebPImagePlugin

        readers["WebP"] = WebPImagePlugin.WebPImageFile
    if "avif" in features.modules and features.check("avif"):  # Pillow 11.3 and later
        from PIL import AvifImagePlugin

        readers["AVIF"] = AvifImagePlugin.AvifImageFile
    return readers


def _upright(picture: Pillow.Image, orientation: int, name: str) -> Image:
    """The loaded picture as RGB, turned as its EXIF orientation asks."""
    with _blamed_on_the_file(name):
        return Image(np.asarray(_turned(_to_rgb(picture, name), orientation)))


def _turned(picture: Pillow.Image, orientation: int) -> Pillow.Image:
    kind = _TRANSPOSITIONS.get(orientation)
    return picture if kind is None else picture.transpose(kind)


def _has_transparency(picture: Pillow.Image) -> bool:
    if picture.mode.startswith("I"):
        return False  # one gray level of 16 bits may be marked as transparent; Pillow cannot apply it
    return picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info


def _to_rgb(picture: Pillow.Image, name: str) -> Pillow.Image:
    mode = picture.mode
    if mode.startswith("I;16"):
        samples = np.asarray(picture).astype(np.uint16)  # in this machine's byte order
        return Pillow.fromarray(_eight_bits(samples)).convert("RGB")
    if mode == "F":
        return Pillow.fromarray(image_from_array(np.asarray(picture), name, max_megapixels=np.inf).pixels)
    if mode in ("I", "LAB"):
        kind = "32-bit integer" if mode == "I" else mode
        raise InvalidImage(f"image {name!r} has {kind} pixels; convert it to 8 or 16 bits of gray or RGB")
    if _has_transparency(picture):
        with_alpha = _with_alpha(picture)
        ground = Pillow.new("RGBA", picture.size, "white")
        return Pillow.alpha_composite(ground, with_alpha).convert("RGB")
    return picture.convert("RGB")


def _with_alpha(picture: Pillow.Image) -> Pillow.Image:
    # Pillow has no direct way from premultiplied gray.
    return (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")


def _eight_bits(samples: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """65,535 becomes 255: value / 257, rounded."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _check_size(height: int, width: int, name: str, max_megapixels: float) -> None:
    if height < 1 or width < 1:
        raise InvalidImage(f"image {name!r} has no pixels: {width} × {height}")
    megapixels = height * width / 1e6
    if megapixels > max_megapixels:
        raise InvalidImage(
            f"image {name!r} has {megapixels:.10g} megapixels; "
            f"the limit is {max_megapixels:.10g} (limits.image_megapixels)"
        )


def _too_many_bytes(name: str, size: int, limit: int) -> InvalidImage:
    return InvalidImage(f"image {name!r} has {size} bytes; the limit is {limit} (limits.image_bytes)")


@contextmanager
def _blamed_on_the_file(name: str) -> Iterator[None]:
    """Whatever a decoder raises over somebody's bytes means that these bytes are not a sound image.

    Pillow raises OSError, SyntaxError, ValueError, struct.error, EOFError and others over damaged
    files, by format and place; the list is not part of its interface.
    """
    try:
        yield
    except InvalidImage:
        raise
    except MemoryError as error:
        raise OutOfMemory(f"image {name!r} needs more memory than there is left") from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise InvalidImage(f"image {name!r} cannot be decoded: {reason}") from error


_warnings_lock = threading.Lock()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silences Pillow's warnings over odd metadata: the pixels are sound or an error says otherwise.

    Python's warning filters belong to the whole process, so only one thread at a time may swap them;
    hence this is held while a header is read, and during the decoding of what alone warns then.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
