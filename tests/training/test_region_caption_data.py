"""Reading pairs of regions and captions in the published formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image as Pictures
from pyarrow import parquet

from regionsearch.errors import InvalidImage, InvalidRequest
from regionsearch.training.region_caption_data import WHOLE_IMAGE_QUERY, digest_of, read_sources


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "train").mkdir(parents=True)
    for number in range(3):
        Pictures.new("RGB", (40, 30), (number * 80, 9, 9)).save(folder / "train" / f"{number}.png")
    return folder


def scar_row(number: int, **changed: Any) -> dict[str, Any]:
    row = {
        "qry": "<|image_1|>\nFind the caption.",
        "qry_image_path": f"train/{number}.png",
        "pos_text": f"caption {number}",
        "pos_image_path": "",
        "neg_text": ["a", "b"],
        "bbox": [4, 5.5, 20, 10.25],
        "segmentation": "dropped",
    }
    return row | changed


def write_scar(path: Path, rows: list[dict[str, Any]]) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_a_scar_row_becomes_the_published_query_and_the_bare_caption(photos: Path, tmp_path: Path) -> None:
    file = write_scar(tmp_path / "SCAR_x.parquet", [scar_row(0), scar_row(1, bbox=[1.0, 2.0, 3.0, 4.0])])
    [source] = read_sources([file], [photos], 100, 0)
    assert source.pairs[0].query == (
        "<|image_pad|>\nFind the caption.\nReferring object bbox: [4.0, 5.5, 24.0, 15.75]"
    )
    assert source.pairs[0].target == "caption 0"
    assert source.pairs[0].box == (4, 5.5, 24, 15.75)
    assert source.pairs[0].image == photos / "train" / "0.png"


def test_whole_numbers_of_a_box_stay_whole_in_the_query(photos: Path, tmp_path: Path) -> None:
    file = write_scar(tmp_path / "a.parquet", [scar_row(0, bbox=[4, 5, 20, 10])])
    [source] = read_sources([file], [photos], 100, 0)
    assert source.pairs[0].query.endswith("\nReferring object bbox: [4, 5, 24, 15]")


def test_a_row_without_a_box_is_a_whole_picture(photos: Path, tmp_path: Path) -> None:
    row = scar_row(0)
    del row["bbox"]
    [source] = read_sources([write_scar(tmp_path / "a.parquet", [row])], [photos], 100, 0)
    assert source.pairs[0].box is None
    assert source.pairs[0].query == "<|image_pad|>\nFind the caption."


def write_coco(path: Path, captions: list[tuple[int, str]]) -> Path:
    images = [{"id": number, "file_name": f"train/{number}.png"} for number in range(3)]
    annotations = [{"id": n, "image_id": i, "caption": c} for n, (i, c) in enumerate(captions)]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_coco_captions_are_asked_for_with_the_whole_picture(photos: Path, tmp_path: Path) -> None:
    file = write_coco(tmp_path / "captions.json", [(1, "A  dog\nruns. "), (1, "Grass."), (2, "A cat.")])
    [source] = read_sources([file], [photos], 100, 0)
    assert [pair.target for pair in source.pairs] == ["A dog runs.", "Grass.", "A cat."]
    assert {pair.query for pair in source.pairs} == {WHOLE_IMAGE_QUERY}
    assert source.pairs[2].image == photos / "train" / "2.png"


def test_a_long_file_is_sampled_and_the_same_seed_gives_the_same_sample(photos: Path, tmp_path: Path) -> None:
    rows = [scar_row(n % 3, pos_text=f"caption {n}") for n in range(50)]
    file = write_scar(tmp_path / "a.parquet", rows)
    first, again, other = (read_sources([file], [photos], 20, seed)[0].pairs for seed in (1, 1, 2))
    numbers = [int(pair.target.split()[1]) for pair in first]
    assert len(set(numbers)) == 20
    assert numbers == sorted(numbers)
    assert first == again
    assert first != other


def test_the_digest_tells_data_apart(photos: Path, tmp_path: Path) -> None:
    file = write_scar(tmp_path / "a.parquet", [scar_row(0), scar_row(1)])
    changed = write_scar(tmp_path / "b.parquet", [scar_row(0), scar_row(1, bbox=[4, 5.5, 20, 10])])
    digests = [digest_of(read_sources([each], [photos], 100, 0)) for each in (file, file, changed)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"bbox": [4, 5, 0, 10]}, "bbox of row 0"),
        ({"bbox": [4, 5, 10]}, "bbox of row 0"),
        ({"bbox": 7}, "bbox of row 0"),
        ({"bbox": [4, None, 20, 10]}, "bbox of row 0"),
        ({"bbox": ["4", "5", "20", "10"]}, "bbox of row 0"),
        ({"bbox": [4.0, 5.0, float("nan"), 10.0]}, "bbox of row 0"),
        ({"pos_text": " \n"}, "row 0 has no pos_text"),
        ({"pos_text": "a <|image_pad|>"}, "pos_text of row 0 holds"),
        ({"pos_text": 5}, "row 0 has no pos_text"),
        ({"qry_image_path": "/nowhere/9.png"}, "first '/nowhere/9.png'"),
        ({"qry": "no place for the picture"}, "does not hold"),
        ({"pos_text": ""}, "row 0 has no pos_text"),
        ({"qry_image_path": "train/9.png"}, "first 'train/9.png'"),
    ],
)
def test_a_bad_scar_row_is_named(
    photos: Path, tmp_path: Path, changed: dict[str, Any], complaint: str
) -> None:
    file = write_scar(tmp_path / "a.parquet", [scar_row(0, **changed)])
    with pytest.raises(InvalidRequest, match=complaint):
        read_sources([file], [photos], 100, 0)


@pytest.mark.parametrize(
    ("images", "annotation", "complaint"),
    [
        ([(0, "train/0.png")], {"image_id": 9, "caption": "a"}, "annotation 0 is of image 9"),
        ([(0, "train/0.png")], {"image_id": 0, "caption": None}, "caption of annotation 0 is None"),
        ([(0, "train/0.png")], {"image_id": 0, "caption": "<|image_pad|>"}, "caption of annotation 0 holds"),
        ([(0, "train/0.png"), (0, "train/1.png")], {"image_id": 0, "caption": "a"}, "image 0 has the file"),
        ([(0, None)], {"image_id": 0, "caption": "a"}, "file_name of image 0 is None"),
    ],
)
def test_a_bad_entry_of_coco_is_named(
    photos: Path, tmp_path: Path, images: list[Any], annotation: dict[str, Any], complaint: str
) -> None:
    named = [{"id": number, "file_name": name} for number, name in images]
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({"images": named, "annotations": [annotation]}))
    with pytest.raises(InvalidRequest, match=complaint):
        read_sources([file], [photos], 100, 0)


def test_blank_captions_of_coco_are_left_out(photos: Path, tmp_path: Path) -> None:
    file = write_coco(tmp_path / "captions.json", [(0, " "), (1, ""), (2, "Ein Häschen 🐇")])
    [source] = read_sources([file], [photos], 100, 0)
    assert [pair.target for pair in source.pairs] == ["Ein Häschen 🐇"]


def test_other_files_are_refused_by_name(photos: Path, tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "not.parquet").write_text("nothing")
    (tmp_path / "not.json").write_text("[1]")
    for name, complaint in (
        ("other.parquet", "has no column qry"),
        ("not.parquet", "cannot be read as Parquet"),
        ("not.json", "is not a COCO captions file"),
        ("absent.parquet", "cannot be read"),
    ):
        with pytest.raises(InvalidRequest, match=rf"{name}.*{complaint}"):
            read_sources([tmp_path / name], [photos], 100, 0)


def test_files_that_are_no_pictures_are_found_before_training(photos: Path, tmp_path: Path) -> None:
    (photos / "train" / "0.png").write_bytes(b"text")
    with pytest.raises(InvalidImage):
        read_sources([write_scar(tmp_path / "a.parquet", [scar_row(0)])], [photos], 100, 0)


def test_folders_and_files_have_to_pair_up(photos: Path, tmp_path: Path) -> None:
    file = write_scar(tmp_path / "a.parquet", [scar_row(0)])
    assert len(read_sources([file, file], [photos], 100, 0)) == 2
    with pytest.raises(InvalidRequest, match="do not pair up"):
        read_sources([file, file, file], [photos, photos], 100, 0)
