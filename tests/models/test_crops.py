"""What a model that knows no regions sees of one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionsearch.errors import InvalidRegion
from regionsearch.images import Image
from regionsearch.models.crops import MAX_ELONGATION, crop_with_context
from regionsearch.regions import Box

HEIGHT, WIDTH = 60, 90


def _numbered(height: int = HEIGHT, width: int = WIDTH) -> Image:
    """A picture whose pixels say where they lie: (row, column, 0)."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return Image(np.stack([rows, columns, np.zeros_like(rows)], axis=2))


def _extent(crop: Image) -> tuple[int, int, int, int]:
    rows, columns = crop.pixels[:, :, 0], crop.pixels[:, :, 1]
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def test_without_context_a_crop_is_its_box_to_whole_pixels() -> None:
    assert _extent(crop_with_context(_numbered(), Box(10.2, 20, 30, 25.5), 0)) == (10, 20, 30, 26)


def test_context_is_a_share_of_each_side() -> None:
    assert _extent(crop_with_context(_numbered(), Box(20, 20, 40, 30), 0.5)) == (10, 15, 50, 35)


def test_context_ends_at_the_border_of_the_image() -> None:
    assert _extent(crop_with_context(_numbered(), Box(0, 50, 20, 60), 0.5)) == (0, 45, 30, 60)


def test_a_line_is_shown_with_what_is_beside_it() -> None:
    crop = crop_with_context(_numbered(), Box(5, 30, 85, 31), 0)
    assert _extent(crop) == (5, 28, 85, 33)


def test_a_line_at_the_border_is_shown_with_what_is_on_its_other_side() -> None:
    crop = crop_with_context(_numbered(), Box(5, 59, 85, 60), 0)
    assert _extent(crop) == (5, 56, 85, 60)


def test_a_box_outside_the_image_is_refused() -> None:
    with pytest.raises(InvalidRegion, match="outside the image"):
        crop_with_context(_numbered(), Box(90, 0, 95, 5), 0.25)


@given(
    corner=st.tuples(st.floats(0, WIDTH - 1), st.floats(0, HEIGHT - 1)),
    size=st.tuples(st.floats(0.01, 200), st.floats(0.01, 200)),
    context=st.floats(0, 3),
)
def test_every_crop_holds_its_box_and_is_no_thread(
    corner: tuple[float, float], size: tuple[float, float], context: float
) -> None:
    box = Box(*corner, corner[0] + size[0], corner[1] + size[1])
    crop = crop_with_context(_numbered(), box, context)
    x0, y0, x1, y1 = _extent(crop)
    inside = box.clip(HEIGHT, WIDTH)
    assert x0 <= inside.x0
    assert y0 <= inside.y0
    assert x1 >= inside.x1
    assert y1 >= inside.y1
    # Rounding outwards lengthens a side by less than two pixels.
    assert max(crop.width, crop.height) <= MAX_ELONGATION * min(crop.width, crop.height) + 2
