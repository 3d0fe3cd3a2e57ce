"""Reading COCO files: what counts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.coco_annotations import read_folders


def write_folder(
    root: Path,
    annotations: list[dict[str, Any]],
    *,
    names: tuple[str, ...] = ("b.png", "a.png"),
    categories: tuple[tuple[int, str], ...] = ((7, "kite"), (9, "drum")),
) -> tuple[Path, Path]:
    """A folder of empty files and its instances.json; images are numbered from 1, 100 × 50 pixels."""
    folder = root / "images"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"")
    file = root / "instances.json"
    content = {
        "images": [
            {"id": n + 1, "file_name": name, "width": 100, "height": 50} for n, name in enumerate(names)
        ],
        "categories": [{"id": number, "name": name} for number, name in categories],
        "annotations": [{"id": n, "iscrowd": 0, "segmentation": [], **a} for n, a in enumerate(annotations)],
    }
    file.write_text(json.dumps(content))
    return folder, file


def test_objects_come_with_class_box_share_and_outline(tmp_path: Path) -> None:
    ring = [10, 5, 30, 5, 30, 15]
    folder, file = write_folder(
        tmp_path, [{"image_id": 1, "category_id": 9, "bbox": [10, 5, 20, 10], "segmentation": [ring]}]
    )
    photos = read_folders([folder], [file])
    assert [image.image_id for image in photos.images] == ["a.png", "b.png"]
    assert photos.classes == ("drum", "kite")
    (thing,) = photos.images[1].objects
    assert thing.class_name == "drum"
    assert thing.box == (10, 5, 30, 15)
    assert thing.box_area == pytest.approx(0.04)
    assert thing.is_large
    assert thing.rings == (((10, 5), (30, 5), (30, 15)),)


def test_crowds_are_left_out(tmp_path: Path) -> None:
    crowd = {"image_id": 1, "category_id": 7, "bbox": [0, 0, 90, 40], "iscrowd": 1}
    folder, file = write_folder(tmp_path, [crowd])
    assert all(image.objects == () for image in read_folders([folder], [file]).images)


@pytest.mark.parametrize(
    ("wrong", "named"), [({"image_id": 5}, "image_id 5"), ({"category_id": 8}, "category_id 8")]
)
def test_unknown_ids_are_refused_by_name(tmp_path: Path, wrong: dict[str, int], named: str) -> None:
    annotation = {"image_id": 1, "category_id": 7, "bbox": [0, 0, 9, 9], **wrong}
    folder, file = write_folder(tmp_path, [annotation])
    with pytest.raises(InvalidRequest, match=named):
        read_folders([folder], [file])


@pytest.mark.parametrize(("size", "shown"), [({"width": 0}, "0 × 50"), ({"height": -3}, "100 × -3")])
def test_an_image_without_a_size_is_refused_by_file_and_id(
    tmp_path: Path, size: dict[str, int], shown: str
) -> None:
    folder, file = write_folder(tmp_path, [{"image_id": 2, "category_id": 7, "bbox": [0, 0, 9, 9]}])
    content = json.loads(file.read_text())
    content["images"][1] |= size
    file.write_text(json.dumps(content))
    with pytest.raises(InvalidRequest, match=rf"instances\.json: image 2 is {shown} pixels"):
        read_folders([folder], [file])


@pytest.mark.parametrize(("key", "number"), [("images", 1), ("categories", 7)])
def test_an_id_that_is_given_twice_is_refused_by_file_and_id(tmp_path: Path, key: str, number: int) -> None:
    folder, file = write_folder(tmp_path, [])
    content = json.loads(file.read_text())
    content[key][1]["id"] = number
    file.write_text(json.dumps(content))
    with pytest.raises(InvalidRequest, match=rf"instances\.json: two of its {key} have the id {number}"):
        read_folders([folder], [file])


@pytest.mark.parametrize(
    ("given", "clipped", "share"),
    [
        ([-40, -10, 50, 20], (0, 0, 10, 10), 0.02),
        ([90, 40, 500, 500], (90, 40, 100, 50), 0.02),
        ([120, 10, 30, 30], (100, 10, 100, 40), 0.0),
        ([30, 10, -20, -8], (30, 10, 10, 2), 0.0),
    ],
)
def test_a_box_counts_as_far_as_it_lies_in_its_image(
    tmp_path: Path, given: list[float], clipped: tuple[float, ...], share: float
) -> None:
    folder, file = write_folder(tmp_path, [{"image_id": 1, "category_id": 7, "bbox": given}])
    (thing,) = read_folders([folder], [file]).images[1].objects
    assert thing.box == clipped
    assert thing.box_area == pytest.approx(share)
    assert not thing.is_large


def test_missing_photos_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    folder, file = write_folder(tmp_path, [])
    (folder / "a.png").unlink()
    with pytest.raises(InvalidRequest, match=r"1 of 2 .*'a\.png'"):
        read_folders([folder], [file])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"images": [{}], "categories": [], "annotations": []}'])
def test_files_that_are_not_coco_are_refused_by_name(tmp_path: Path, content: str) -> None:
    folder, file = write_folder(tmp_path, [])
    file.write_text(content)
    with pytest.raises(InvalidRequest, match=r"instances\.json"):
        read_folders([folder], [file])


def test_several_folders_share_classes_by_name_and_keep_their_ids_apart(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "one", [{"image_id": 1, "category_id": 7, "bbox": [0, 0, 50, 50]}])
    two = write_folder(
        tmp_path / "two",
        [{"image_id": 2, "category_id": 3, "bbox": [0, 0, 50, 50]}],
        categories=((3, "kite"),),
    )
    photos = read_folders([one[0], two[0]], [one[1], two[1]])
    assert [image.image_id for image in photos.images] == [
        "one/images/a.png",
        "one/images/b.png",
        "two/images/a.png",
        "two/images/b.png",
    ]
    assert [image.image_id for image in photos.images if image.classes == {"kite"}] == [
        "one/images/b.png",
        "two/images/a.png",
    ]
    with pytest.raises(InvalidRequest, match="twice"):
        read_folders([one[0], one[0]], [one[1], one[1]])


def test_captions_go_to_their_images_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    folder, file = write_folder(tmp_path, [])
    captions = tmp_path / "captions.json"
    captions.write_text(
        json.dumps(
            {
                "annotations": [
                    {"id": 1, "image_id": 1, "caption": " a kite\n"},
                    {"id": 2, "image_id": 1, "caption": "b"},
                ]
            }
        )
    )
    photos = read_folders([folder], [file], [captions])
    assert [image.captions for image in photos.images] == [(), ("a kite", "b")]
    captions.write_text(json.dumps({"annotations": [{"id": 4, "image_id": 77, "caption": "x"}]}))
    with pytest.raises(InvalidRequest, match="caption 4 is of image 77"):
        read_folders([folder], [file], [captions])
