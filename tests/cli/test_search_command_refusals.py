"""`regionsearch search`: what its words mean, and what they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from served_photos import LEFT, RIGHT, Served, refusal

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


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--image-id", "03.png", "--entity", "0", "--point", "3,3"], "--entity"),
        (["--image", "PHOTO", "--box", LEFT, "--point", "90,60"], "put --region before it"),
        (["--image", "PHOTO", "--polygon", "1,1,9,1,9,9", "--point", "90,60"], "outside the --polygon"),
        (["--image", "PHOTO", "--box", LEFT, "--region"], "--region opens a region"),
        (["--image", "PHOTO", "--region", "--region", "--point", "9,9"], "--region opens a region"),
        (["--text", "x", "--entity", "0"], "--image-id"),
        (["--image", "PHOTO", "--place", "left", "--box", LEFT, "--box", RIGHT], "--place"),
        (["--image", "PHOTO", "--box", LEFT, "--place", "left", "--place", "right"], "twice"),
        (["--image", "PHOTO", "--point", "20,20", "--refine"], "--refine"),
        (["--image", "PHOTO", "--polygon", "800,800,900,800,900,900"], "120 × 90"),
        (["--text", "x", "--place", "left", "--place-box", "0,0,1,1"], "box"),
        (["--text", "x", "--min-area", "2"], "area"),
        (["--text", "x", "--min-score", "7"], "min_score"),
        (["--text", "x", "--page-token", "!"], "page token"),
        (["--text", "x", "--scoring", "missing.json"], "missing.json"),
        (["--text", "x", "--explain", "no/such/folder/why.png"], "folder"),
        (["--batch", "missing.jsonl"], "missing.jsonl': No such file or directory"),
        (["--image", "PHOTO", "--mask", "nofile.png"], "mask 'nofile.png' is no file"),
        (["--batch", "x.jsonl", "--explain", "why.png"], "--batch"),
        (["--like", "nobody.png"], "nobody.png"),
        (["--unlike", "00.png"], "empty"),
        (["--text", "x", "--where", "entity.area >"], "filter"),
        (["--text", "x", "--where", "entity.colour = 3"], "colour"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(
    served: Served, capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    given = [served.query if word == "PHOTO" else word for word in words]
    assert named in refusal(capsys, served, *given)


def test_a_server_is_not_told_how_to_score(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "--collection", "c", "--address", served.address, "--text", "x"]
    assert main([*words, "--scoring", "scoring.json"]) == 1
    assert "--scoring needs --data" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--polygon", "1,2,3,4"],
        ["--polygon", "1,2,3,4,5,6,7"],
        ["--polygon", "1,2,3,4,5,x"],
        ["--place", "middle"],
        ["--place-box", "1,2,3"],
        ["--tolerance", "nan"],
        ["--min-count", "1.5"],
        ["--min-score", "high"],
        ["--group-by", "photo"],
        ["--preset", "quick"],
        ["--entity", "first"],
    ],
)
def test_a_value_not_of_its_form_cannot_be_parsed(
    served: Served, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["search", "--collection", "c", "--data", str(served.data), "--text", "x", *words])
    assert stopped.value.code == 2
    output = capsys.readouterr()
    [line] = output.err.splitlines()
    assert words[0] in line
    assert words[1] in line
    assert output.out == ""
