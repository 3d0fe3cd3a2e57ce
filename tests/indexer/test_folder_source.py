"""Which files of a folder are images, and what they are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from indexer.sources import scan_folder
from regionsearch.errors import InvalidRequest


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_images_are_found_recursively_and_named_by_their_path(tmp_path: Path) -> None:
    for name in ("b.JPG", "a/c.png", "a/b/d.webp", "notes.txt", ".hidden.jpg", ".cache/e.jpg"):
        touch(tmp_path / name)
    assert [image.image_id for image in scan_folder(tmp_path).images] == ["a/b/d.webp", "a/c.png", "b.JPG"]


def test_ids_are_in_one_unicode_form(tmp_path: Path) -> None:
    touch(tmp_path / "cafe\u0301.jpg")
    assert [image.image_id for image in scan_folder(tmp_path).images] == ["caf\u00e9.jpg"]


def test_two_spellings_of_one_name_are_one_image_and_one_failure(tmp_path: Path) -> None:
    touch(tmp_path / "cafe\u0301.jpg")
    touch(tmp_path / "caf\u00e9.jpg")
    scan = scan_folder(tmp_path)
    assert len(scan.images) == 1
    assert "normalisation" in scan.unnamed[0][1]


def test_a_name_that_is_not_unicode_is_reported(tmp_path: Path) -> None:
    touch(tmp_path / "good.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg")).write_bytes(b"x")
    scan = scan_folder(tmp_path)
    assert [image.image_id for image in scan.images] == ["good.jpg"]
    assert "UTF-8" in scan.unnamed[0][1]


def test_a_linked_folder_is_not_entered_but_a_linked_file_counts(tmp_path: Path) -> None:
    touch(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "round").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "link.jpg").symlink_to(tmp_path / "photos" / "a.jpg")
    found = [image.image_id for image in scan_folder(tmp_path / "photos").images]
    assert found == ["a.jpg", "link.jpg"]


@pytest.mark.parametrize("name", ["missing", "file.jpg", "empty"])
def test_what_is_no_folder_of_images_is_refused_by_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "file.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match=name):
        scan_folder(tmp_path / name)
