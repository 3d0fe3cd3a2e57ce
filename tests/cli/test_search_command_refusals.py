"""`regionsearch search`: what its words mean, and what they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from regionsearch.cli.main import main
from regionsearch.cli.question import read_mask
from regionsearch.errors import InvalidRegion


def test_a_mask_file_counts_where_it_is_bright_and_opaque(tmp_path: Path) -> None:
    pixels = np.full((9, 12, 4), 255, dtype=np.uint8)
    pixels[:, :, 3] = 0
    pixels[2:5, 3:7, 3] = 255
    PIL.Image.fromarray(pixels).save(tmp_path / "cut-out.png")
    assert read_mask(tmp_path / "cut-out.png").box().as_tuple() == (3, 2, 7, 5)
    pixels[:, :, 3] = 0
    PIL.Image.fromarray(pixels).save(tmp_path / "clear.png")
    with pytest.raises(InvalidRegion, match="transparent"):
        read_mask(tmp_path / "clear.png")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--timeout", "-1"], "timeout"),
        (["--timeout", "nan"], "timeout"),
        (["--text", "a\udcff"], "text"),
        (["--image-id", "a\udcff"], "image_id"),
        (["--weight", "a\udcff=1", "--text", "x"], "weights"),
        (["--text", "x", "--device", "cuda"], "--device needs --data"),
        (["--text", "x", "--token-budget", "64"], "--token-budget needs --data"),
    ],
)
def test_what_a_server_cannot_be_asked_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    # Nobody listens there: these are refused before anything is sent.
    assert main(["search", "--collection", "c", "--address", "127.0.0.1:1", *words]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    [line] = output.err.splitlines()
    assert named in line
