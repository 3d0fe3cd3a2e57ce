"""Every kind of file either decodes right or is refused by name, and coordinates stay true."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, features

from regionsearch.errors import InvalidImage
from regionsearch.images import (
    Image,
    decode_image,
    decode_mask,
    image_from_array,
    image_from_pillow,
    image_size,
    thumbnail_jpeg,
)

HEIGHT, WIDTH = 30, 40
WHITE = [255, 255, 255]

needs_avif = pytest.mark.skipif(
    "avif" not in features.modules or not features.check("avif"), reason="this Pillow was built without AVIF"
)


def photo() -> NDArray[np.uint8]:
    """A smooth picture whose four quarters differ, (30, 40, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack((x * 6, y * 8, 255 - x * 3 - y * 3), axis=2).astype(np.uint8)


def saved(picture: Pillow.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def encoded(kind: str, **options: Any) -> bytes:
    return saved(Pillow.fromarray(photo()), kind, **options)


def deviation(image: Image, expected: NDArray[Any]) -> float:
    """Mean absolute difference, in levels of 255."""
    assert image.pixels.shape == expected.shape
    return float(np.abs(image.pixels.astype(int) - expected.astype(int)).mean())


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header tells of a size that its few bytes do not hold."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")


LOSSLESS: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("BMP", {}),
    ("WebP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"big_tiff": True}),
]
ALL_KINDS = [
    *LOSSLESS,
    ("JPEG", {"quality": 95}),
    ("JPEG", {"quality": 95, "progressive": True}),
    ("MPO", {"quality": 95}),
    ("WebP", {"quality": 95}),
    ("GIF", {}),
    pytest.param("AVIF", {"quality": 95}, marks=needs_avif),
]


# What decodes


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_files_decode_to_the_very_pixels(kind: str, options: dict[str, Any]) -> None:
    image = decode_image(encoded(kind, **options))
    assert (image.pixels == photo()).all()
    assert (image.height, image.width) == (HEIGHT, WIDTH)
    assert image.pixels.flags.c_contiguous


@pytest.mark.parametrize(("kind", "options"), ALL_KINDS)
def test_every_known_format_decodes_close_to_the_original(kind: str, options: dict[str, Any]) -> None:
    data = encoded(kind, **options)
    assert deviation(decode_image(data), photo()) < 6
    assert image_size(data) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 95}),
        ("WebP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        pytest.param("AVIF", {"quality": 95}, marks=needs_avif),
    ],
)
def test_a_rotated_file_becomes_upright_and_its_header_says_so(
    kind: str, options: dict[str, Any], orientation: int
) -> None:
    # What a camera stores, held this way, of the upright photo: EXIF 2.32, the tag's eight rows and columns.
    upright = photo()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = saved(Pillow.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    assert image_size(data) == (HEIGHT, WIDTH)
    assert deviation(decode_image(data), upright) < 4
    with Pillow.open(io.BytesIO(data)) as picture:
        assert deviation(image_from_pillow(picture), upright) < 4
    with Pillow.open(io.BytesIO(data)) as picture:  # turned already by the caller: not again
        assert deviation(image_from_pillow(ImageOps.exif_transpose(picture)), upright) < 4


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_leaves_the_picture_as_it_is(orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    assert (decode_image(encoded("PNG", exif=exif)).pixels == photo()).all()


def test_damaged_exif_is_no_reason_to_refuse_sound_pixels() -> None:
    for junk in (b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\x00\x09\x01"):
        assert deviation(decode_image(encoded("JPEG", quality=95, exif=junk)), photo()) < 4


def test_a_png_is_turned_wherever_its_orientation_stands() -> None:
    plain = encoded("PNG")
    exif = Pillow.Exif()
    exif[0x0112] = 6
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    behind_pixels = plain[:-12] + png_chunk(b"eXIf", content) + plain[-12:]
    hexadecimal = b"Exif\0\0".hex() + content.hex()
    profile = f"\nexif\n{len(hexadecimal) // 2:8}\n{hexadecimal}\n".encode()  # as ImageMagick writes it
    text = png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile))
    for data in (encoded("PNG", exif=exif), behind_pixels, plain[:33] + text + plain[33:]):
        assert image_size(data) == (WIDTH, HEIGHT)
        assert (decode_image(data).pixels == photo()[::-1].transpose(1, 0, 2)).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WebP", "TIFF", "MPO"])
def test_of_several_frames_the_first_is_taken(kind: str) -> None:
    first = Pillow.fromarray(photo())
    others = [Pillow.new("RGB", first.size, colour) for colour in ("red", "lime")]
    data = saved(first, kind, save_all=True, append_images=others)
    assert deviation(decode_image(data), photo()) < 6


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    picture = Pillow.fromarray(photo()).convert("CMYK")
    assert deviation(decode_image(saved(picture, kind)), np.asarray(picture.convert("RGB"))) < 4


@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_gray_are_scaled_and_not_cut_off(kind: str, byte_order: str) -> None:
    levels = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    mode = "I;16" if byte_order == "<u2" else "I;16B"
    picture = Pillow.frombytes(mode, (WIDTH, HEIGHT), levels.astype(byte_order).tobytes())
    expected = np.rint(levels / 257).astype(np.uint8)
    image = decode_image(saved(picture, kind))
    assert (image.pixels == expected[:, :, None]).all()


def test_floating_point_files_are_read_from_0_to_1_and_refused_beyond() -> None:
    levels = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    image = decode_image(saved(Pillow.fromarray(levels), "TIFF"))
    assert (image.pixels[:, :, 0] == np.rint(levels * 255)).all()
    with pytest.raises(InvalidImage, match=r"image 'hdr.tif' has floats outside 0 to 1: 0.0 to 7.5"):
        decode_image(saved(Pillow.fromarray(levels * 7.5), "TIFF"), "hdr.tif")


def test_one_bit_and_gray_pictures_become_rgb() -> None:
    gray = Pillow.fromarray(photo()).convert("L")
    assert (decode_image(saved(gray, "PNG")).pixels == np.asarray(gray)[:, :, None]).all()
    bilevel = gray.convert("1")
    for kind in ("PNG", "BMP", "TIFF", "GIF"):
        pixels = decode_image(saved(bilevel, kind)).pixels
        assert (pixels == np.where(np.asarray(bilevel), 255, 0)[:, :, None]).all()


def test_a_palette_is_looked_up() -> None:
    picture = Pillow.fromarray(photo()).quantize(16)
    expected = np.asarray(picture.convert("RGB"))
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        assert (decode_image(saved(picture, kind)).pixels == expected).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WebP", "TIFF"])
def test_transparent_pixels_lie_on_white(mode: str, kind: str) -> None:
    picture = Pillow.new("RGBA", (3, 1))
    for column, alpha in enumerate((255, 0, 128)):
        picture.putpixel((column, 0), (40, 40, 40, alpha))
    options = {"lossless": True, "exact": True} if kind == "WebP" else {}
    data = saved(picture.convert(mode), kind, **options)
    [[solid, clear, half]] = decode_image(data).pixels.tolist()
    assert solid == [40, 40, 40]
    assert clear == WHITE
    assert half == pytest.approx([147, 147, 147], abs=1)


@pytest.mark.parametrize(
    ("mode", "options"), [("RGBA", {}), ("LA", {}), ("P", {"transparency": bytes([255, 255, 127, 128])})]
)
def test_a_pixel_of_a_mask_counts_when_it_is_bright_and_opaque(mode: str, options: dict[str, Any]) -> None:
    levels, alphas = np.array([[255, 127, 255, 128]], np.uint8), np.array([[255, 255, 127, 128]], np.uint8)
    if mode == "P":
        picture = Pillow.fromarray(np.arange(4, dtype=np.uint8)[None], "P")
        picture.putpalette([value for level in levels[0] for value in (level, 0, 0)])
    else:
        gray = [levels] if mode == "LA" else [levels, levels // 2, levels // 3]
        picture = Pillow.fromarray(np.stack([*gray, alphas], axis=2), mode)
    assert decode_mask(saved(picture, "PNG", **options)).tolist() == [[True, False, False, True]]


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_a_mask_without_transparency_is_where_its_picture_is_bright(mode: str) -> None:
    if mode == "I;16":
        picture = Pillow.fromarray(np.array([[0, 65_535, 20_000]], dtype=np.uint16))
    else:
        picture = (
            Pillow.fromarray(np.array([[0, 255, 100]], dtype=np.uint8)).convert("RGB").convert(mode, dither=0)
        )
    assert decode_mask(saved(picture, "PNG")).tolist() == [[False, True, False]]


def test_a_mask_is_upright_as_its_picture_is() -> None:
    picture = Pillow.new("LA", (3, 2), (255, 0))
    picture.putpixel((0, 0), (255, 255))
    exif = picture.getexif()
    exif[0x0112] = 6  # a quarter turn clockwise
    mask = decode_mask(saved(picture, "PNG", exif=exif))
    assert np.argwhere(mask).tolist() == [[0, 1]]
    assert mask.shape == (3, 2)
    with pytest.raises(InvalidImage, match="megapixels"):
        decode_mask(saved(picture, "PNG"), max_megapixels=1e-6)


def test_transparent_palette_entries_and_key_colours_lie_on_white() -> None:
    palette = Pillow.new("P", (2, 1))
    palette.putpalette([200, 10, 10, 10, 200, 10])
    palette.putpixel((1, 0), 1)
    for data in (
        saved(palette, "PNG", transparency=0),
        saved(palette, "PNG", transparency=b"\x00\xff"),
        saved(palette, "GIF", transparency=0),
    ):
        assert decode_image(data).pixels.tolist() == [[WHITE, [10, 200, 10]]]
    keyed = saved(
        Pillow.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8)), "PNG", transparency=(1, 2, 3)
    )
    assert decode_image(keyed).pixels.tolist() == [[WHITE, [9, 9, 9]]]
    gray = saved(Pillow.fromarray(np.array([[7, 9]], np.uint8)), "PNG", transparency=7)
    assert decode_image(gray).pixels.tolist() == [[WHITE, [9, 9, 9]]]


def test_a_colour_profile_does_not_change_the_pixels() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert (decode_image(encoded("PNG", icc_profile=profile)).pixels == photo()).all()


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 1)])
def test_extremely_thin_pictures_decode_and_have_thumbnails(shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 77, dtype=np.uint8)
    for kind in ("PNG", "JPEG", "BMP"):
        image = decode_image(saved(Pillow.fromarray(pixels), kind))
        assert image.pixels.shape == (*shape, 3)
        assert max(image_size(thumbnail_jpeg(image))) == min(320, max(shape))


# What is refused


@pytest.mark.parametrize(("kind", "options"), ALL_KINDS)
def test_a_truncated_file_is_refused_by_name(kind: str, options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    data = saved(Pillow.fromarray(noise), kind, **options)
    for share in (0.02, 0.3, 0.6, 0.85):
        with pytest.raises(InvalidImage, match=r"image 'album/torn' (cannot be decoded: .+|is not a JPEG)"):
            decode_image(data[: int(len(data) * share)], "album/torn")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"hello, I am a text", "is not a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a JPEG"),
        (b"P6 2 2 255\n" + bytes(12), "is not a JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a JPEG"),
        (b"\xff\xd8\xff", "cannot be decoded: .+"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded: .+"),
        (b"BM" + bytes(60), "cannot be decoded: .+"),
        (b"GIF89a" + bytes(4), "cannot be decoded: .+"),
        (b"GIF89a" + bytes(7) + b";", "cannot be decoded|has no pixels"),
        (b"II*\0" + bytes(40), "cannot be decoded: .+"),
        (b"RIFF\x20\0\0\0WEBPVP8 " + bytes(30), "cannot be decoded: .+"),
        (png_of_size(0, 5), "has no pixels|cannot be decoded"),
    ],
)
def test_bytes_that_are_no_picture_are_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidImage, match=f"image 'a/b.jpg' ({reason})"):
        decode_image(data, "a/b.jpg")
    with pytest.raises(InvalidImage, match=r"image 'a/b\.jpg'"):
        image_size(data, "a/b.jpg")


def test_a_huge_picture_is_refused_by_its_header() -> None:
    bomb = png_of_size(20_600, 20_000)
    with pytest.raises(InvalidImage) as refused:
        decode_image(bomb, "a/b.jpg")
    assert str(refused.value) == (
        "image 'a/b.jpg' has 412 megapixels; the limit is 64 (limits.image_megapixels)"
    )
    assert image_size(bomb) == (20_000, 20_600)


def test_the_pixel_limit_is_exact_and_adjustable() -> None:
    data = encoded("PNG")
    assert decode_image(data, max_megapixels=0.0012).width == WIDTH
    with pytest.raises(InvalidImage, match=r"has 0.0012 megapixels; the limit is 0.001199 \("):
        decode_image(data, max_megapixels=0.001199)
    with pytest.raises(InvalidImage, match=r"image 'mine' has 0.0012 megapixels"):
        image_from_array(photo(), "mine", max_megapixels=0.001)
    with pytest.raises(InvalidImage, match=r"image 'mine' has 0.0012 megapixels"):
        image_from_pillow(Pillow.fromarray(photo()), "mine", max_megapixels=0.001)


def test_a_file_with_too_many_bytes_is_refused() -> None:
    data = encoded("PNG")
    assert decode_image(data, max_bytes=len(data)).width == WIDTH
    with pytest.raises(InvalidImage, match=rf"has {len(data)} bytes; the limit is 10 \(limits.image_bytes\)"):
        decode_image(data, max_bytes=10)


def test_pillows_own_limit_neither_warns_nor_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 1)
    for kind in ("PNG", "JPEG", "GIF", "BMP"):
        assert decode_image(encoded(kind)).width == WIDTH
    assert Pillow.MAX_IMAGE_PIXELS == 1


def test_pixels_without_a_defined_white_are_refused() -> None:
    integers = Pillow.fromarray(np.arange(12, dtype=np.int32).reshape(3, 4))
    with pytest.raises(InvalidImage, match=r"image 'depth\.tif' has 32-bit integer pixels"):
        decode_image(saved(integers, "TIFF"), "depth.tif")
    lab = Pillow.new("LAB", (4, 3))
    with pytest.raises(InvalidImage, match=r"image 'print.tif' has LAB pixels"):
        decode_image(saved(lab, "TIFF"), "print.tif")


@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WebP"]), st.data())
def test_damaged_files_decode_or_are_refused_but_nothing_else(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode_image(bytes(damaged), "damaged", max_megapixels=1)
    except InvalidImage:
        with pytest.raises(InvalidImage, match=r"^image 'damaged' (cannot|is not|has|is empty)"):
            decode_image(bytes(damaged), "damaged", max_megapixels=1)
    else:
        assert (image.height, image.width) == image_size(bytes(damaged))


def test_odd_metadata_warns_nobody_and_leaves_the_warning_filters_alone() -> None:
    tiff = bytearray(encoded("TIFF", software="x" * 40))
    place = tiff.index(struct.pack("<HH", 305, 2))  # tag Software, ASCII: let its text lie past the end
    tiff[place + 8 : place + 12] = struct.pack("<I", 10**6)
    with pytest.warns(UserWarning, match="Truncated File Read"):
        Pillow.open(io.BytesIO(tiff)).load()
    before = list(warnings.filters)
    assert (decode_image(bytes(tiff)).pixels == photo()).all()
    assert list(warnings.filters) == before


def test_many_threads_decode_at_once() -> None:
    files = [encoded(kind) for kind in ("PNG", "TIFF", "BMP")] * 20
    before = list(warnings.filters)
    wrong: list[int] = []

    def work(start: int) -> None:
        for number, data in enumerate(files[start::4]):
            if not (decode_image(data).pixels == photo()).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert list(warnings.filters) == before
