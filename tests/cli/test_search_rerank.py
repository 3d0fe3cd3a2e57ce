"""`regionsearch search --rerank` on a data directory and on a server."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw
import pytest

from regionsearch.cli import main
from regionsearch.collection import DataDirectory
from regionsearch.config import Limits
from regionsearch.ingest import collection_spec
from regionsearch.ingest.pipeline import EncodedImage, Pipeline
from regionsearch.ingest.upserting import upsert_images
from regionsearch.models.registry import ModelRegistry
from regionsearch.search import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.server import Server

COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "orange", "purple")


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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Collections `c` and `bare` in a data directory, with and without their pixels, and a server of it."""
    path = tmp_path_factory.mktemp("rerank-cli") / "data"
    models, limits = ModelRegistry(1), Limits()
    embedder, segmenter = models.embedder("dummy"), models.segmenter("dummy")
    with DataDirectory(path, "write") as directory:
        images = [EncodedImage(f"{number:02}.png", photo(number)) for number in range(12)]
        kept = directory.create_collection(collection_spec("c", embedder, segmenter, pixels="original"))
        upsert_images(kept, Pipeline(embedder, segmenter, pixels="original"), images)
        bare = directory.create_collection(collection_spec("bare", embedder, segmenter, pixels="none"))
        upsert_images(bare, Pipeline(embedder, segmenter, pixels="none"), images)
        server = Server(Address("127.0.0.1", 0), limits)
        server.start(Backend(directory, models, SearchEngine(models, limits), limits))
        yield Served(path, str(server.address))
        server.stop(1)


def answer(capsys: pytest.CaptureFixture[str], words: list[str]) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


@pytest.mark.parametrize("method", ["pairwise", "pairwise_instructed"])
def test_a_directory_and_a_server_read_again_alike(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    (tmp_path / "query.png").write_bytes(photo(3))
    question = ["--image", str(tmp_path / "query.png"), "--box", "10,10,42,39", "--text", "blue"]
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
