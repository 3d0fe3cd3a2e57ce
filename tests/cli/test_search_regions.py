"""`regionsearch search`: regions of a picture, and where matches lie."""

from __future__ import annotations

import pytest
from served_photos import LEFT, RIGHT, Served, answer

from regionsearch.cli import main
from regionsearch.regions import Box, Mask, mask_iou


def test_several_regions_are_matched_to_distinct_entities(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--image", served.query, "--box", LEFT, "--point", "20,20", "--box", RIGHT, "--limit", "3"]
    found = answer(capsys, served, *words)
    assert [region["prompts"][0] for region in found["regions"]] == [
        {"box": [float(side) for side in box.split(",")]} for box in (LEFT, RIGHT)
    ]
    assert len(found["regions"][0]["prompts"]) == 2  # the point belongs to the box before it
    first = found["hits"][0]
    assert first["image_id"] == "03.png"
    assert [match["region"] for match in first["matches"]] == [0, 1]
    for match, region in zip(first["matches"], found["regions"], strict=True):
        assert mask_iou(Mask.from_coco(match["entity"]["mask"]), Mask.from_coco(region["mask"])) > 0.8
    for hit in found["hits"]:
        assert len({match["entity"]["index"] for match in hit["matches"]}) == 2


def test_points_before_every_box_are_a_region_of_their_own(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--image", served.query, "--point", "20,20", "--point", "100,85,0", "--box", RIGHT]
    first, second = answer(capsys, served, *words)["regions"]
    assert first["prompts"] == [
        {"point": [20.0, 20.0], "positive": True},
        {"point": [100.0, 85.0], "positive": False},
    ]
    assert second["prompts"] == [{"box": [70.0, 50.0, 109.0, 76.0]}]


@pytest.mark.parametrize(
    "words",
    [
        ["--point", "20,20", "--region", "--point", "90,60"],
        ["--region", "--point", "20,20", "--region", "--point", "90,60"],
    ],
)
def test_two_clicks_are_two_things_with_an_option_that_opens_a_region(
    served: Served, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    found = answer(capsys, served, "--image", served.query, *words, "--limit", "2")
    assert [region["prompts"] for region in found["regions"]] == [
        [{"point": [x, y], "positive": True}] for x, y in ((20.0, 20.0), (90.0, 60.0))
    ]
    assert found["hits"][0]["image_id"] == "03.png"


def test_a_polygon_of_two_rings_is_a_region(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    rings = "10,10,40,10,40,40,10,40;70,50,110,50,110,76"
    (used,) = answer(capsys, served, "--image", served.query, "--polygon", rings)["regions"]
    expected = Mask.from_box(Box(10, 10, 40, 40), 90, 120).pixels + 40 * 26 / 2
    assert Mask.from_coco(used["mask"]).pixels == pytest.approx(expected, rel=0.05)
    assert len(used["prompts"][0]["polygon"]) == 2


def test_a_box_is_taken_as_it_is_unless_it_is_refined(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    loose = ["--image", served.query, "--box", "5,5,50,45"]
    (plain,) = answer(capsys, served, *loose)["regions"]
    (refined,) = answer(capsys, served, *loose, "--refine")["regions"]
    thing = Mask.from_box(Box(10, 10, 43, 40), 90, 120)
    assert plain["box"] == [5, 5, 50, 45]
    assert mask_iou(Mask.from_coco(refined["mask"]), thing) > mask_iou(Mask.from_coco(plain["mask"]), thing)


def test_a_strict_placement_keeps_entities_elsewhere_out(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--text", "red", "--strict-placement", "--limit", "12"]
    right = answer(capsys, served, *asked, "--place", "right_half")
    assert right["hits"]
    assert all((hit["entity"]["box"][0] + hit["entity"]["box"][2]) / 2 >= 60 for hit in right["hits"])
    small = answer(capsys, served, *asked, "--max-area", "0.09")
    assert small["hits"]
    assert all(hit["entity"]["area"] <= 0.09 for hit in small["hits"])


def test_each_placement_belongs_to_the_region_before_it(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--image", served.query, "--box", LEFT, "--place", "left_half", "--strict-placement"]
    words += ["--box", RIGHT, "--place-box", "0.58,0.55,0.92,0.86", "--tolerance", "0.2", "--limit", "4"]
    for hit in answer(capsys, served, *words)["hits"]:
        box = hit["matches"][0]["entity"]["box"]
        assert (box[0] + box[2]) / 2 < 60
        assert 0 <= hit["parts"]["placement"]["raw"] <= 1


def test_labels_are_strict_and_counts_when_told_so(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(capsys, served, "--text", "red", "--label", "dog")["hits"] == []
    many = ["--text", "red", "--min-count", "50"]
    assert answer(capsys, served, *many, "--strict-placement")["hits"] == []
    assert answer(capsys, served, *many)["hits"]
    assert answer(capsys, served, "--text", "red", "--max-count", "50")["hits"]


def test_the_table_names_regions_others_and_the_next_page(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "--collection", "c", "--data", str(served.data), "--image", served.query]
    assert main([*words, "--box", LEFT, "--box", RIGHT, "--all-entities", "1", "--limit", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:13] for line in lines[:2]] == ["region 1 used", "region 2 used"]
    assert sum("region 1: entity" in line for line in lines) == 2
    assert any(line.startswith("more: --page-token ") for line in lines)
