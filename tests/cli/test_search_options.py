"""`regionsearch search`: everything that a question can say, on a data directory and on a server."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
from numpy.typing import NDArray

from regionsearch.cli import main
from regionsearch.cli.arguments import example
from regionsearch.collection import DataDirectory
from regionsearch.collection.records import PixelsKept
from regionsearch.config import Limits
from regionsearch.demonstration.explanation import REGION_COLOURS
from regionsearch.ingest import collection_spec
from regionsearch.ingest.pipeline import EncodedImage, Pipeline
from regionsearch.ingest.upserting import upsert_images
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask, mask_iou
from regionsearch.search import SearchEngine
from regionsearch.search.scoring import shipped_scoring
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.server import Server

COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "orange", "purple")
PHOTOS = 12
LEFT, RIGHT = "10,10,41,39", "70,50,109,76"
"""Boxes of the two things of photo 3."""


def photo(number: int) -> bytes:
    image = PIL.Image.new("RGB", (120, 90), "white")
    pen = PIL.ImageDraw.Draw(image)
    pen.rectangle((10, 10, 39 + number, 39), fill=COLOURS[number % 8])
    pen.rectangle((70, 50, 109, 79 - number), fill=COLOURS[(number // 2 + 3) % 8])
    coded = io.BytesIO()
    image.save(coded, "PNG")
    return coded.getvalue()


@dataclass(frozen=True)
class Served:
    data: Path
    address: str
    query: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Collections `c` and `bare`, with and without pixels, a server of them, and photo 3 as a file."""
    path = tmp_path_factory.mktemp("search-options") / "data"
    query = path.parent / "query.png"
    query.write_bytes(photo(3))
    models, limits = ModelRegistry(1), Limits()
    embedder, segmenter = models.embedder("dummy"), models.segmenter("dummy")
    images = [EncodedImage(f"{number:02}.png", photo(number)) for number in range(PHOTOS)]
    with DataDirectory(path, "write") as directory:
        kept: dict[str, PixelsKept] = {"c": "thumbnail", "bare": "none"}
        for name, pixels in kept.items():
            spec = collection_spec(name, embedder, segmenter, pixels=pixels)
            upsert_images(
                directory.create_collection(spec), Pipeline(embedder, segmenter, pixels=pixels), images
            )
        server = Server(Address("127.0.0.1", 0), limits)
        server.start(Backend(directory, models, SearchEngine(models, limits), limits))
        yield Served(path, str(server.address), str(query))
        server.stop(1)


def answer(capsys: pytest.CaptureFixture[str], served: Served, *words: str) -> dict[str, Any]:
    """The JSON that a directory and a server both give, for which they must agree but for the timing, and for
    how many records a filter read, which is told in the notes."""
    found = list[dict[str, Any]]()
    for where in (["--data", str(served.data)], ["--address", served.address]):
        capsys.readouterr()
        assert main(["search", "--collection", "c", *where, *words, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    here, there = found
    for document in found:
        del document["timing_ms"]
    notes = here.pop("notes")
    assert len(there.pop("notes")) == len(notes)
    assert here == there
    return {**here, "notes": notes}


def refusal(capsys: pytest.CaptureFixture[str], served: Served, *words: str) -> str:
    capsys.readouterr()
    assert main(["search", "--collection", "c", "--data", str(served.data), *words]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    [line] = output.err.splitlines()
    return line


def ids(document: dict[str, Any]) -> list[str]:
    return [hit["image_id"] for hit in document["hits"]]


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


def test_several_entities_of_an_indexed_image_are_asked_with(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--image-id", "03.png", "--entity", "0", "--entity", "1", "--include-self", "--limit", "2"]
    found = answer(capsys, served, *words)
    assert found["hits"][0]["image_id"] == "03.png"
    assert {match["entity"]["index"] for match in found["hits"][0]["matches"]} == {0, 1}


def test_liked_and_disliked_examples_move_the_answer_and_are_not_in_it(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    liked = answer(capsys, served, "--like", "00.png", "--like", "08.png#0", "--limit", "12")
    assert {"00.png", "08.png"}.isdisjoint(ids(liked))
    plain = answer(capsys, served, "--image-id", "00.png", "--limit", "12")
    moved = answer(capsys, served, "--image-id", "00.png", "--unlike", ids(plain)[0], "--limit", "12")
    assert ids(plain)[0] not in ids(moved)
    kept = [hit for hit in ids(plain) if hit in ids(moved)]
    assert {hit["image_id"]: hit["score"] for hit in moved["hits"]} != {
        hit["image_id"]: hit["score"] for hit in plain["hits"] if hit["image_id"] in kept
    }


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a.jpg", ("a.jpg", None)),
        ("a.jpg#3", ("a.jpg", 3)),
        ("a#b.jpg", ("a#b.jpg", None)),
        ("a#3#", ("a#3", None)),
        ("a#3#0", ("a#3", 0)),
        ("a.jpg#-1", ("a.jpg#-1", None)),
    ],
)
def test_an_example_is_an_id_or_an_entity_of_one(written: str, meant: tuple[str, int | None]) -> None:
    assert example(written) == meant


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


def test_only_what_meets_the_filter_is_found(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--text", "red", "--limit", "20", "--where"]
    everything = answer(capsys, served, *words, "")["hits"]
    areas = sorted(hit["entity"]["area"] for hit in everything)
    bound = areas[len(areas) // 2]
    for where, meets in (
        (f"entity.area >= {bound}", lambda hit: hit["entity"]["area"] >= bound),
        ("entity.index = 1 AND entity.x > 0.5", lambda hit: hit["entity"]["index"] == 1),
        ('image.id IN ("03.png", "05.png")', lambda hit: hit["image_id"] in ("03.png", "05.png")),
    ):
        found = answer(capsys, served, *words, where)
        assert found["hits"]
        assert all(map(meets, found["hits"]))
    assert ids(found) == [hit["image_id"] for hit in everything if hit["image_id"] in ("03.png", "05.png")]
    assert "records were read" in found["notes"][0]
    assert answer(capsys, served, *words, "entity.area > 1")["hits"] == []


def test_pages_together_are_the_longer_answer(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    whole = ids(answer(capsys, served, "--text", "red", "--limit", "12"))
    pages, token = list[str](), ""
    while True:
        page = answer(capsys, served, "--text", "red", "--limit", "5", "--page-token", token)
        pages += ids(page)
        token = page["next_page_token"]
        if not token:
            break
    assert pages == whole


def test_hits_can_be_entities_and_list_others(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    entities = answer(capsys, served, "--text", "red", "--group-by", "entity", "--limit", "24")["hits"]
    found = [(hit["image_id"], hit["entity"]["index"]) for hit in entities]
    assert len(set(found)) == len(found) == 2 * PHOTOS
    images = answer(capsys, served, "--text", "red", "--all-entities", "5", "--limit", "12")["hits"]
    for hit in images:
        others = [match["entity"]["index"] for match in hit["entities"]]
        assert sorted([hit["entity"]["index"], *others]) == [0, 1]


def test_a_score_below_the_least_is_no_hit(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    scores = [hit["score"] for hit in answer(capsys, served, "--text", "red", "--limit", "12")["hits"]]
    least = sorted(scores)[len(scores) // 2]
    kept = answer(capsys, served, "--text", "red", "--limit", "12", "--min-score", repr(least))["hits"]
    assert [hit["score"] for hit in kept] == [score for score in scores if score >= least]


def test_hits_name_their_rank_in_each_arm_and_the_answer_its_calibration(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, served, "--text", "red", "--limit", "12", "--preset", "thorough")
    for arm in ("entity_arm_rank", "global_arm_rank"):
        assert sorted(hit[arm] for hit in found["hits"]) == list(range(1, PHOTOS + 1))
    assert found["calibration"]
    few = answer(capsys, served, "--text", "red", "--limit", "2", "--candidates", "2", "--preset", "fast")
    assert len(few["hits"]) == 2


def test_a_scoring_file_weighs_the_parts(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scoring = shipped_scoring().to_json()
    scoring["weights"]["text_image"] = 7.25
    for weights in scoring["per_kind"].values():
        weights["text_image"] = 3.5
    scoring["per_kind"].setdefault("words", {**scoring["weights"], "text_image": 3.5})
    (tmp_path / "scoring.json").write_text(json.dumps(scoring))
    words = ["search", "--collection", "c", "--data", str(served.data), "--text", "red", "--json"]
    words += ["--scoring", str(tmp_path / "scoring.json")]
    for more, weight in (([], 7.25), (["--per-kind-weights"], 3.5)):
        capsys.readouterr()
        assert main([*words, *more]) == 0
        hits = json.loads(capsys.readouterr().out)["hits"]
        assert {hit["parts"]["text_image"]["weight"] for hit in hits} == {weight}


def lines_of(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def test_a_batch_is_answered_line_by_line(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = [
        {"text": "red"},
        {"image": served.query, "regions": [{"box": [10, 10, 41, 39], "refine": True}], "limit": 2},
        {"image_id": "03.png", "entities": [0, 1], "text": "blue"},
        {
            "image": served.query,
            "regions": [
                {"points": [[0.2, 0.2], [0.9, 0.9, 0]], "normalised": True, "placement": {"part": "left"}},
                {"polygon": [[70, 50], [110, 50], [110, 76]]},
            ],
        },
        {"liked": ["00.png#1", {"image_id": "02.png"}], "disliked": ["04.png"], "min_score": 0.1},
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, questions)) + "\n\n")
    together = []
    for where in (["--data", str(served.data)], ["--address", served.address]):
        capsys.readouterr()
        assert main(["search", "--collection", "c", *where, "--batch", str(path), "--limit", "3"]) == 0
        together.append(lines_of(capsys.readouterr().out))
    here, there = together
    assert [ids(one) for one in here] == [ids(one) for one in there]
    assert [len(one["hits"]) for one in here] == [3, 2, 3, 3, 3]
    assert ids(here[0]) == ids(answer(capsys, served, "--text", "red", "--limit", "3"))
    assert [len(one["regions"]) for one in here] == [0, 1, 0, 2, 0]


def test_a_refused_question_of_a_batch_disturbs_no_other(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        '{"text": "red"}',
        '{"texd": "red"}',
        "{",
        '{"text": 3}',
        '{"image_id": "no"}',
        '{"image": "no\\u0000file"}',
        '{"image": "\\ud800"}',
        '{"image_id": "03.png", "entity": 0, "entities": [1]}',
        '{"text": "red", "where": "entity.area > 1"}',
        '{"text": "red", "where": "entity.area >> 1"}',
        '{"text": "red"}',
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(lines))
    assert main(["search", "--collection", "c", "--data", str(served.data), "--batch", str(path)]) == 1
    output = capsys.readouterr()
    answers = lines_of(output.out)
    assert ["error" in one for one in answers] == [False, *[True] * 7, False, True, False]
    assert answers[8]["hits"] == []
    assert answers[9]["error"]["reason"] == "INVALID_FILTER"
    assert "'texd'" in answers[1]["error"]["message"]
    assert answers[4]["error"]["reason"] == "IMAGE_NOT_FOUND"
    assert [one["error"]["line"] for one in answers if "error" in one][:2] == [2, 3]
    assert "8 of 11 questions were refused, in lines 2, 3, 4, 5, 6, 7, 8, 10\n" in output.err


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


def test_the_table_names_regions_others_and_the_next_page(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "--collection", "c", "--data", str(served.data), "--image", served.query]
    assert main([*words, "--box", LEFT, "--box", RIGHT, "--all-entities", "1", "--limit", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:13] for line in lines[:2]] == ["region 1 used", "region 2 used"]
    assert sum("region 1: entity" in line for line in lines) == 2
    assert any(line.startswith("more: --page-token ") for line in lines)
