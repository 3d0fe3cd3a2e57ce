"""`regionsearch search --rerank` on a data directory and on a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from served_photos import Served, served_photos

from regionsearch.cli import main


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Collections `c` and `bare`, with and without their pixels."""
    with served_photos(tmp_path_factory.mktemp("rerank"), {"c": "original", "bare": "none"}) as served:
        yield served


def answer(capsys: pytest.CaptureFixture[str], words: list[str]) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


@pytest.mark.parametrize("method", ["pairwise", "pairwise_instructed"])
def test_a_directory_and_a_server_read_again_alike(
    served: Served, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    question = ["--image", served.query, "--box", "10,10,42,39", "--text", "blue"]
    again = ["--rerank", method, "--rerank-top", "5", "--rerank-weight", "2.5", "--limit", "8"]
    words = ["search", "--collection", "c", *question, *again]
    here = answer(capsys, [*words, "--data", str(served.data)])
    there = answer(capsys, [*words, "--address", served.address])
    assert [hit["image_id"] for hit in here["hits"]] == [hit["image_id"] for hit in there["hits"]]
    assert [hit["rerank"] for hit in here["hits"]] == [hit["rerank"] for hit in there["hits"]]
    assert [hit["rerank"] is None for hit in here["hits"]] == [False] * 5 + [True] * 3
    keys = {"raw", "standardised", "weight", "joint_score", "joint_rank"}
    assert all(set(hit["rerank"]) == keys and hit["rerank"]["weight"] == 2.5 for hit in here["hits"][:5])
    assert sorted(hit["rerank"]["joint_rank"] for hit in here["hits"][:5]) == [1, 2, 3, 4, 5]
    assert here["timing_ms"]["rerank"] > 0


def test_the_table_says_which_images_were_read_again(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "--collection", "c", "--data", str(served.data), "--text", "red"]
    assert main([*words, "--rerank", "pairwise", "--rerank-top", "2", "--limit", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["read again" in line for line in lines[:4]] == [True, True, False, False]


@pytest.mark.parametrize(
    ("collection", "more", "named"),
    [
        ("bare", ["--rerank", "pairwise"], "original"),
        ("c", ["--rerank", "pairwise_instructed"], "needs a picture beside the text"),
        ("c", ["--rerank-top", "4"], "--rerank-top needs --rerank"),
        ("c", ["--rerank-weight", "4"], "--rerank-weight needs --rerank"),
        ("c", ["--rerank", "pairwise", "--rerank-top", "257"], "256"),
        ("c", ["--rerank", "pairwise", "--rerank-weight", "0"], "above 0"),
    ],
)
def test_what_cannot_be_read_again_is_refused_in_one_line(
    served: Served, capsys: pytest.CaptureFixture[str], collection: str, more: list[str], named: str
) -> None:
    for where in (["--data", str(served.data)], ["--address", served.address]):
        assert main(["search", "--collection", collection, "--text", "red", *where, *more]) == 1
        output = capsys.readouterr()
        assert output.out == ""
        [line] = output.err.splitlines()
        assert named in line


def test_a_method_that_does_not_exist_cannot_be_parsed(served: Served) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["search", "--collection", "c", "--data", str(served.data), "--text", "x", "--rerank", "twice"])
    assert stopped.value.code == 2
