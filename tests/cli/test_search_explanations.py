"""`regionsearch search --explain`: the answer as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
from numpy.typing import NDArray
from served_photos import LEFT, Served, answer, ids

from regionsearch.cli import main
from regionsearch.demonstration.explanation import REGION_COLOURS

QUESTIONS: list[list[str]] = [
    ["--text", "red"],
    ["--image", "PHOTO"],
    ["--image", "PHOTO", "--box", LEFT, "--point", "100,80,0", "--text", "with a long instruction " * 8],
    ["--image", "PHOTO", "--box", LEFT, "--polygon", "70,50,110,50,110,76", "--all-entities", "1"],
    ["--image-id", "03.png", "--entity", "1", "--text", "blue", "--place-box", "0.5,0.5,1,1"],
    ["--like", "00.png#1", "--unlike", "04.png", "--place", "left_half", "--min-area", "0.01"],
    ["--text", "red", "--label", "nothing has it"],
    ["--text", "red", "--where", "entity.area > 0.05 AND entity.index < 1"],
]


def pixels_of(picture: Path) -> NDArray[np.int64]:
    with PIL.Image.open(picture) as drawn:
        return np.asarray(drawn.convert("RGB")).astype(np.int64)


def outlined(pixels: NDArray[np.int64], region: int) -> int:
    """How many pixels are of a region's colour."""
    return int((np.abs(pixels - REGION_COLOURS[region]).max(axis=2) < 12).sum())


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda words: " ".join(words)[:40])
def test_every_kind_of_question_is_explained_in_a_picture(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], question: list[str]
) -> None:
    words = [served.query if word == "PHOTO" else word for word in question]
    found = ids(answer(capsys, served, *words, "--limit", "4"))
    drawn = []
    for where in (["--data", str(served.data)], ["--address", served.address]):
        picture = tmp_path / f"{where[0]}.png"
        asked = ["search", "--collection", "c", *where, *words, "--limit", "4"]
        assert main([*asked, "--explain", str(picture)]) == 0
        drawn.append(pixels_of(picture))
    assert np.array_equal(drawn[0], drawn[1])
    assert (outlined(drawn[0], 0) > 200) == bool(found)
    regions = sum(word in ("--box", "--polygon") for word in words)
    assert (outlined(drawn[0], 1) > 200) == (regions > 1)


def test_a_collection_without_pixels_is_explained_by_outlines(served: Served, tmp_path: Path) -> None:
    picture = tmp_path / "why.png"
    words = ["search", "--collection", "bare", "--data", str(served.data), "--text", "red"]
    assert main([*words, "--explain", str(picture)]) == 0
    assert outlined(pixels_of(picture), 0) > 200
