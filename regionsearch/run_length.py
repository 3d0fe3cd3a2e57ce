"""Run-length coding of binary masks, compatible with COCO's, in vectorised numpy.

A mask of height × width pixels is read column by column (top to bottom, then left to right) and
written as the lengths of its alternating runs: `counts`, (k,) uint32. The first run is of zeros and
may have length 0; in canonical form no other has. All lengths together are height × width.

Overlap, area and extent are computed on the runs, so that many masks of one image never have to be
dense in memory at the same time. Positions below are indices into the column-major pixels.

The functions here trust their arguments (`regions.Mask` checks them) and say so where they do not.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from regionsearch.errors import InvalidRegion

Counts = NDArray[np.uint32]
Positions = NDArray[np.int64]

LONGEST_RUN = 2**32 - 1
MAX_CROSSINGS = 4_000_000
"""Of a polygon's edges with pixel columns: 200 MB of work. A photo's outlines have some thousands."""
_MAX_DIGITS = 7
"""Base-32 digits of a number in the compressed string: 35 bits hold every difference of two counts."""
_DIGIT_BOUNDS = 1 << (5 * np.arange(1, _MAX_DIGITS) - 1)
"""From here on a magnitude takes one digit more."""
_UPSAMPLING = 5


def encode(pixels: NDArray[np.bool_]) -> Counts:
    """Counts of a dense mask, (height, width) bool in any memory order; about 1 ms for 2.5 megapixels."""
    height, width = pixels.shape
    if pixels.flags.f_contiguous:
        columns = pixels.T.reshape(-1)
        changes = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    else:
        # Comparing rows where they lie and sorting the few changes is quicker than transposing them all.
        changed = np.empty((height, width), dtype=np.bool_)
        np.not_equal(pixels[1:], pixels[:-1], out=changed[1:])
        np.not_equal(pixels[0, 1:], pixels[-1, :-1], out=changed[0, 1:])
        changed[0, 0] = False
        rows, columns_changed = np.divmod(np.flatnonzero(changed), width)
        changes = np.sort(columns_changed * height + rows)
    return _counts_between(changes, bool(pixels[0, 0]), height * width)


def decode(counts: Counts, height: int, width: int) -> NDArray[np.bool_]:
    """The dense mask, (height, width) bool, Fortran-ordered."""
    values = np.zeros(len(counts), dtype=np.bool_)
    values[1::2] = True
    return np.repeat(values, counts).reshape(width, height).T


def canonical(counts: NDArray[np.integer]) -> Counts:
    """The same mask without runs of length 0 after the first, (k,) uint32."""
    if (counts[1:] > 0).all():
        return counts.astype(np.uint32, copy=False)
    ends = np.cumsum(counts, dtype=np.int64)
    return _from_toggles(ends[:-1], int(ends[-1]))


def compress(counts: Counts) -> str:
    """COCO's ASCII form: from the fourth on, each count less the one two before it, in signed base-32
    digits (least first, bit 5: more follow), each digit plus 48 as a character."""
    return compress_all([counts])[0]


def compress_all(masks: Sequence[Counts]) -> list[str]:
    """`compress` of each: what numpy costs a call is paid once for all of them."""
    if not masks:
        return []
    sizes = np.array([len(counts) for counts in masks])
    first = np.cumsum(sizes) - sizes
    values = np.concatenate(masks).astype(np.int64)
    earlier = np.zeros_like(values)
    earlier[2:] = values[:-2]
    for place in range(3):
        earlier[(first + place)[sizes > place]] = 0
    values -= earlier
    magnitude = values ^ (values >> 63)
    # Along an outline most differences are one digit: those of more are spelled out place by place.
    longer = np.flatnonzero(magnitude >= 1 << 4)
    digits = np.ones(len(values), dtype=np.int64)
    digits[longer] += np.searchsorted(_DIGIT_BOUNDS, magnitude[longer], side="right")
    starts = np.cumsum(digits) - digits
    characters = np.empty(int(starts[-1] + digits[-1]), dtype=np.uint8)
    characters[starts] = (values & 0x1F) + 48
    for place in range(1, _MAX_DIGITS):
        longer = longer[digits[longer] > place]
        if len(longer) == 0:
            break
        at_place = starts[longer] + place
        characters[at_place - 1] += 0x20
        characters[at_place] = ((values[longer] >> (5 * place)) & 0x1F) + 48
    text = characters.tobytes().decode("ascii")
    bounds_in_text = [*starts[first].tolist(), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(bounds_in_text)]


def decompress(text: str | bytes) -> Counts:
    """Counts of COCO's ASCII form as written: not made canonical, not checked against a size.

    Raises InvalidRegion if the text is empty, holds a foreign character, ends within a number, or
    codes a run that is negative or longer than a uint32 holds.
    """
    return decompress_all([text])[0]


def decompress_all(texts: Sequence[str | bytes]) -> list[Counts]:
    """`decompress` of each: what numpy costs a call is paid once for all of them.

    Raises InvalidRegion for the first text that `decompress` would refuse.
    """
    if not texts:
        return []
    raw = [_ascii(text) for text in texts]
    coded = np.frombuffer(b"".join(raw), dtype=np.uint8).astype(np.int64) - 48
    text_ends = np.cumsum([len(each) for each in raw])
    foreign = np.flatnonzero((coded < 0) | (coded > 63))
    if len(foreign):
        owner = int(np.searchsorted(text_ends, foreign[0], side="right"))
        at = int(foreign[0]) - (int(text_ends[owner]) - len(raw[owner]))
        raise InvalidRegion(f"run-length string has a foreign character at {at}")
    last = np.flatnonzero(coded & 0x20 == 0)
    if (coded[text_ends - 1] & 0x20).any():
        raise InvalidRegion("run-length string ends within a number")
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > _MAX_DIGITS:
        raise InvalidRegion(f"run-length string has a number of {lengths.max()} digits")
    place = np.arange(len(coded)) - np.repeat(first, lengths)
    values = np.add.reduceat((coded & 0x1F) << (5 * place), first)
    values -= np.where(coded[last] & 0x10, np.int64(1) << (5 * lengths), 0)
    ends = (np.searchsorted(last, text_ends - 1) + 1).tolist()
    found = []
    for start, end in itertools.pairwise([0, *ends]):
        counts = values[start:end]
        counts[1::2] = np.cumsum(counts[1::2])
        counts[2::2] = np.cumsum(counts[2::2])
        found.append(counts)
    if values.min() < 0 or values.max() > LONGEST_RUN:
        raise InvalidRegion(f"run-length string has a run of {values.min()} or {values.max()} pixels")
    return [counts.astype(np.uint32) for counts in found]


def _ascii(text: str | bytes) -> bytes:
    try:
        raw = text.encode("ascii") if isinstance(text, str) else bytes(text)
    except UnicodeEncodeError as error:
        raise InvalidRegion(f"run-length string has a foreign character at {error.start}") from error
    if not raw:
        raise InvalidRegion("run-length string is empty")
    return raw


def area(counts: Counts) -> int:
    """Pixels of the mask."""
    return int(counts[1::2].sum(dtype=np.int64))


def spans(counts: Counts) -> tuple[Positions, Positions]:
    """Where the runs of ones begin and where they end (exclusive), each (k // 2,) int64."""
    ends = np.cumsum(counts, dtype=np.int64)
    return ends[:-1:2], ends[1::2]


def bounds(counts: Counts, height: int) -> tuple[int, int, int, int]:
    """The tight box [x0, y0, x1, y1) in pixels; (0, 0, 0, 0) for an empty mask."""
    starts, ends = spans(counts)
    if len(starts) == 0:
        return (0, 0, 0, 0)
    first_columns, tops = np.divmod(starts, height)
    last_columns, bottoms = np.divmod(ends - 1, height)
    x0, x1 = int(first_columns[0]), int(last_columns[-1]) + 1
    if (first_columns != last_columns).any():  # such a run touches both the bottom and the top
        return (x0, 0, x1, height)
    return (x0, int(tops.min()), x1, int(bottoms.max()) + 1)


def at(counts: Counts, position: int) -> bool:
    """Whether the pixel at a column-major position is in the mask."""
    ends = np.cumsum(counts, dtype=np.int64)
    return bool(np.searchsorted(ends, position, side="right") % 2)


def intersection_area(a: Counts, b: Counts) -> int:
    """Pixels that two masks of one size share."""
    ends = np.cumsum(a, dtype=np.int64)
    # Pixels of `a` before a position grow by 0 or 1 a step: linear between the ends of its runs, and
    # exact in float64, for a picture has fewer than 2**32 pixels.
    before = np.cumsum(np.where(np.arange(len(a)) % 2, a, 0), dtype=np.int64)
    starts_b, ends_b = spans(b)
    known = np.concatenate(([0], ends))
    pixels = np.concatenate(([0], before))
    shared = np.interp(ends_b, known, pixels) - np.interp(starts_b, known, pixels)
    return int(shared.sum())


def iou(a: Counts, b: Counts) -> float:
    """Intersection over union of two masks of one size, 0 to 1; 0 when both are empty."""
    shared = intersection_area(a, b)
    together = area(a) + area(b) - shared
    return shared / together if together else 0.0


def union(masks: Sequence[Counts]) -> Counts:
    """Counts of the pixels in any of one or more masks of one size."""
    return _covered(masks, at_least=1)


def intersection(masks: Sequence[Counts]) -> Counts:
    """Counts of the pixels in every one of one or more masks of one size."""
    return _covered(masks, at_least=len(masks))


def from_box(x0: int, y0: int, x1: int, y1: int, height: int, width: int) -> Counts:
    """Counts of the pixels [x0, x1) × [y0, y1), which lie within the picture and are not empty."""
    inside, between = y1 - y0, height - (y1 - y0)
    if between == 0:
        # Columns of full height are one run together.
        counts = np.array([x0 * height, (x1 - x0) * height, (width - x1) * height], np.uint32)
    else:
        counts = np.empty(2 * (x1 - x0) + 1, np.uint32)
        counts[0] = x0 * height + y0
        counts[1::2] = inside
        counts[2::2] = between
        counts[-1] = height * width - (x1 - 1) * height - y1
    return counts if counts[-1] else counts[:-1]


def from_ring(corners: NDArray[np.float64], height: int, width: int) -> Counts:
    """Counts of the inside of one closed ring, corners (n, 2) float64 [x, y] in pixels.

    Rasterises as COCO's tools do (Lin et al. 2014, the reference implementation of the mask API), to
    the pixel: corners are rounded on a grid five times as fine, edges are drawn there as digital
    lines along their longer axis, and where such a line passes the middle of a column of pixels, the
    ring's inside begins or ends at that height. An even number of passes at one place cancels out.
    Only those places are computed here, never the whole line, so that a corner far outside costs no more.

    Raises InvalidRegion if the edges cross columns more than MAX_CROSSINGS times.
    """
    corners_fine = np.trunc(corners * _UPSAMPLING + 0.5)
    following = np.roll(corners_fine, -1, axis=0)
    extent = np.abs(following - corners_fine)
    flat = extent[:, 0] >= extent[:, 1]
    major = np.where(flat, 0, 1)
    rows = np.arange(len(corners))
    # A digital line does not depend on the direction in which its edge is walked.
    backward = corners_fine[rows, major] > following[rows, major]
    begin = np.where(backward[:, None], following, corners_fine)
    end = np.where(backward[:, None], corners_fine, following)
    # The middle of column c lies between 5c + 2 and 5c + 3 on the fine grid.
    left = np.minimum(begin[:, 0], end[:, 0])
    right = np.maximum(begin[:, 0], end[:, 0])
    first = np.maximum(np.ceil((left - 2) / _UPSAMPLING), 0)
    last = np.minimum(np.floor((right - 3) / _UPSAMPLING), width - 1)
    passed = np.maximum(last - first + 1, 0).astype(np.int64)
    total = int(passed.sum())
    if total > MAX_CROSSINGS:
        raise InvalidRegion(
            f"a ring of {len(corners)} corners crosses {total} pixel columns; the limit is {MAX_CROSSINGS}"
        )
    edge = np.repeat(rows, passed)
    step = np.arange(total) - np.repeat(np.cumsum(passed) - passed, passed)
    column = first.astype(np.int64)[edge] + step
    heights = _crossing_heights(begin[edge], end[edge], flat[edge], column)
    on_grid = np.clip((heights + 0.5) / _UPSAMPLING - 0.5, 0, height)
    toggles = column * height + np.ceil(on_grid).astype(np.int64)
    return _from_toggles(toggles, height * width)


def _crossing_heights(
    begin: NDArray[np.float64], end: NDArray[np.float64], flat: NDArray[np.bool_], column: Positions
) -> NDArray[np.float64]:
    """The upper of the two grid points between which each digital line passes a column's middle.

    begin, end: (n, 2) on the fine grid, in the direction in which the longer axis grows;
    flat: (n,) whether that is the x axis; column: (n,) pixel columns. Returns (n,) on the fine grid.
    """
    x, y = begin.T
    dx, dy = (end - begin).T
    threshold = (_UPSAMPLING * column + 3).astype(np.float64)

    slope = np.divide(dy, dx, out=np.zeros_like(dx), where=flat)
    before = threshold - 1 - x
    flat_heights = np.minimum(np.floor(y + slope * before + 0.5), np.floor(y + slope * (before + 1) + 0.5))

    lean = np.divide(dx, dy, out=np.ones_like(dx), where=~flat)
    lean[flat] = 1.0  # not used there; any slope but 0
    estimate = np.ceil((threshold - 0.5 - x) / lean)

    def is_past(along: NDArray[np.float64]) -> NDArray[np.bool_]:
        beyond: NDArray[np.bool_] = x + lean * along + 0.5 >= threshold
        return np.where(lean > 0, beyond, ~beyond)

    # Rounding can put the estimate one step off in either direction.
    past = estimate - 1 + ~is_past(estimate - 1) + ~is_past(estimate)
    heights: NDArray[np.float64] = np.where(flat, flat_heights, y + past - 1)
    return heights


def _from_toggles(toggles: Positions, size: int) -> Counts:
    """Counts of the mask that changes its value at each position; a pair at one place cancels out."""
    places, times = np.unique(toggles, return_counts=True)
    places = places[(times % 2 == 1) & (places < size)]
    starts_with_ones = len(places) > 0 and places[0] == 0
    return _counts_between(places[1:] if starts_with_ones else places, bool(starts_with_ones), size)


def _counts_between(changes: Positions, starts_with_ones: bool, size: int) -> Counts:
    """Canonical counts from the sorted positions, in 1 to size - 1, at which the value changes."""
    lead = (0, 0) if starts_with_ones else (0,)
    edges = np.concatenate((lead, changes, (size,)))
    return np.diff(edges).astype(np.uint32)


def _covered(masks: Sequence[Counts], at_least: int) -> Counts:
    """Counts of the pixels that at least so many of the masks cover."""
    bounds_of_runs = [spans(counts) for counts in masks]
    starts = np.concatenate([begin for begin, _ in bounds_of_runs])
    ends = np.concatenate([finish for _, finish in bounds_of_runs])
    places, index = np.unique(np.concatenate((starts, ends)), return_inverse=True)
    change = np.concatenate((np.ones(len(starts), np.int64), -np.ones(len(ends), np.int64)))
    depth = np.cumsum(np.bincount(index, weights=change, minlength=len(places)))
    inside = depth >= at_least
    turned = np.diff(inside, prepend=False)
    size = int(masks[0].sum(dtype=np.int64))
    return _from_toggles(places[turned], size)
