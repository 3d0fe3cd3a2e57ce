"""SCaR's files, strings and candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from published_files import write_parquet

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.published.scar import (
    ScarRow,
    ScarSubset,
    published_query,
    query_of,
    read_subsets,
    retrieval_of,
    subset_name,
)
from regionsearch.evaluation.published.wording import wording_of

ROW = {
    "qry_text": "<|image_1|>\nFind X.",
    "qry_image_path": "a/b.jpg",
    "tgt_text": ["a dog on grass", "a cat on grass", "a dog on sand"],
    "bbox": [10, 20.5, 30, 40.25],
}
BOX = [10, 20.5, 40, 60.75]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        # What the published program printed for these when it was run.
        (
            "<|image_1|>\nFind X.",
            "<|image_pad|> \nFind X.\nReferring object bbox: [10, 20.5, 40, 60.75]",
        ),
        (
            "<|image_1|> Find X.",
            "<|image_pad|>   Find X.\nReferring object bbox: [10, 20.5, 40, 60.75]",
        ),
        (
            "<|image_1|>\nFind X.\n",
            "<|image_pad|> \nFind X.\n\nReferring object bbox: [10, 20.5, 40, 60.75]",
        ),
    ],
)
def test_queries_are_worded_as_by_the_published_program(stored: str, expected: str) -> None:
    assert published_query(stored, BOX) == expected


def test_rows_are_read_with_boxes_as_corners_and_numbers_as_stored(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "SCaR_eval_RefCOCO_plus.parquet", [{**ROW, "bbox": [10, 20, 30, 40]}])
    (subset,) = read_subsets([file])
    assert subset.name == "RefCOCO+"
    (row,) = subset.rows
    # Whole numbers are printed as such in the published string.
    assert repr(row.bbox) == "(10, 20, 40, 60)"
    assert (row.image, row.captions) == ("a/b.jpg", tuple(ROW["tgt_text"]))


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("SCaR_eval_RefCOCOg", "RefCOCOg"),
        ("SCAR_RefCOCO_plus_val_filtered", "RefCOCO+"),
        ("SCaR_eval_VisualGenome", "VG"),
        ("SCaR_eval_COCO_Stuff", "COCO-Stuff"),
        ("SCaR_eval_ADE20K", "ADE20K"),
        ("my_photos", "my_photos"),
    ],
)
def test_subsets_are_called_as_the_published_table_calls_them(stem: str, name: str) -> None:
    assert subset_name(Path(f"{stem}.parquet")) == name


def scar_row(captions: tuple[str, ...]) -> ScarRow:
    return ScarRow("<|image_1|>\nFind X.", "a.jpg", (1, 2, 3, 4), captions)


def test_a_distractor_equal_to_the_true_caption_counts_as_true() -> None:
    subset = ScarSubset("s", [scar_row(("true", "other", "true")), scar_row(("other", "true", "third"))])
    retrieval = retrieval_of(subset, wording_of("virtue"))
    assert [one.text for one in retrieval.candidates] == ["true", "other", "third"]
    assert retrieval.choices is not None
    assert [places.tolist() for places in retrieval.choices] == [[0, 1, 0], [1, 0, 2]]
    assert [places.tolist() for places in retrieval.correct] == [[0], [1]]


@pytest.mark.parametrize(
    ("kind", "text", "box"),
    [
        ("virtue", "<|image_pad|> \nFind X.\nReferring object bbox: [1, 2, 3, 4]", (1, 2, 3, 4)),
        ("vlm", "<|image_pad|> \nFind X.\nReferring object bbox: [1, 2, 3, 4]", None),
        ("abc", "Find X.", (1, 2, 3, 4)),
        ("compact", None, (1, 2, 3, 4)),
    ],
)
def test_each_kind_of_model_gets_the_words_and_the_region_that_it_reads(
    kind: str, text: str | None, box: tuple[float, ...] | None
) -> None:
    query = query_of(scar_row(("a", "b")), wording_of(kind))
    assert (query.text, query.image, query.box, query.crop) == (text, "a.jpg", box, False)
    cropped = query_of(scar_row(("a", "b")), wording_of(kind), crop=True)
    assert (cropped.text, cropped.box, cropped.crop) == (text, (1, 2, 3, 4), True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bbox": [1, 2, 3]}, r"row 0: column 'bbox'.*4 finite numbers"),
        ({"bbox": [1.0, 2.0, float("nan"), 4.0]}, r"row 0: column 'bbox'.*4 finite numbers"),
        ({"bbox": [1.0, 2.0, float("inf"), 4.0]}, r"row 0: column 'bbox'.*4 finite numbers"),
        ({"tgt_text": []}, r"row 0: column 'tgt_text'.*one text or more"),
        ({"qry_image_path": 7}, r"row 0: column 'qry_image_path'.*text"),
    ],
)
def test_a_row_of_another_form_is_named(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    file = write_parquet(tmp_path / "x.parquet", [{**ROW, **changed}])
    with pytest.raises(InvalidRequest, match=message):
        read_subsets([file])


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    row = {key: value for key, value in ROW.items() if key != "bbox"}
    file = write_parquet(tmp_path / "x.parquet", [row])
    with pytest.raises(InvalidRequest, match=r"no column 'bbox'; it has qry_text, qry_image_path, tgt_text"):
        read_subsets([file])


def test_what_is_no_parquet_file_and_what_is_given_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("{}")
    with pytest.raises(InvalidRequest, match="cannot be read as Parquet"):
        read_subsets([tmp_path / "x.parquet"])
    with pytest.raises(InvalidRequest, match="cannot be read as Parquet"):
        read_subsets([tmp_path / "nowhere.parquet"])
    one = write_parquet(tmp_path / "SCaR_eval_ADE20K.parquet", [ROW])
    other = write_parquet(tmp_path / "again" / "ade20k.parquet", [ROW])
    with pytest.raises(InvalidRequest, match="two of the files are the subset ADE20K"):
        read_subsets([one, other])


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", [{**ROW, "qry_image_path": f"{n}"} for n in range(5)])
    (subset,) = read_subsets([file], limit=2)
    assert [row.image for row in subset.rows] == ["0", "1"]
    about = subset.about()
    assert (about["queries"], about["images"]) == (2, 2)
    assert about["chance"] == pytest.approx(1 / 3)
    assert np.isfinite(float(str(about["chance"])))
