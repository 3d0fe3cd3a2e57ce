"""`regionsearch search`: examples, conditions and what the answer is like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from served_photos import PHOTOS, Served, answer, ids

from regionsearch.cli import main
from regionsearch.cli.arguments import example
from regionsearch.search.scoring import shipped_scoring


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
