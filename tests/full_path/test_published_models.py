"""Every published layout, from its folder to an answer: index, serve, ask with a region and words.

The weights are tiny and random, so what is found means nothing; that every stage runs, agrees with every
other one and is refused where it should be is what counts.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
from tiny_abc import write_tiny_abc, write_tiny_qwen2_vl
from tiny_dual_encoder import write_tiny_dual_encoder
from tiny_sam2 import write_tiny_sam2
from tiny_virtue import write_tiny_virtue

from regionsearch.cli import main
from regionsearch.client import Client
from regionsearch.collection import DataDirectory
from regionsearch.config import Limits
from regionsearch.errors import ModelNotFound
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.server import Server

# A random SAM is sure of nothing: its filters would leave the whole frame as the only entity.
EASY = "points_per_side=4,pred_iou_thresh=0,stability_score_thresh=0"


@dataclass(frozen=True)
class Layout:
    """A published layout: what writes it, and the segmenter that goes with it."""

    write: Callable[[Path], Path]
    segmenter: str = "dummy"
    own_process: bool = True
    """Whether its server is the command; those of one family with another need not pay for a start."""


def tiny_clip(folder: Path) -> Path:
    return write_tiny_dual_encoder(folder, "clip")


def tiny_siglip(folder: Path) -> Path:
    return write_tiny_dual_encoder(folder, "siglip")


def tiny_siglip2(folder: Path) -> Path:
    return write_tiny_dual_encoder(folder, "siglip2")


def tiny_vlm(folder: Path) -> Path:
    # A Qwen2-VL that does not say what it was trained for is refused: the name of the folder says it.
    named = folder.with_name(f"{folder.name}-vlm2vec")
    write_tiny_qwen2_vl(named)
    return named


LAYOUTS = {
    "virtue": Layout(write_tiny_virtue, segmenter="sam2"),
    "abc": Layout(write_tiny_abc),
    "clip": Layout(tiny_clip),
    "siglip": Layout(tiny_siglip, own_process=False),
    "siglip2": Layout(tiny_siglip2, own_process=False),
    "vlm2vec": Layout(tiny_vlm),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number, colours in enumerate((("red", "blue"), ("green", "red"), ("blue", "yellow"))):
        image = PIL.Image.new("RGB", (96 + 16 * number, 80), "white")
        draw = PIL.ImageDraw.Draw(image)
        draw.rectangle((8, 10, 40, 50), fill=colours[0])
        draw.ellipse((52, 30, 84, 70), fill=colours[1])
        image.save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"{write_tiny_sam2(tmp_path_factory.mktemp('sam2') / 'sam2')},{EASY}"


@dataclass(frozen=True)
class Indexed:
    layout: Layout
    weights: Path
    data: Path


@pytest.fixture(scope="module", params=list(LAYOUTS))
def indexed(
    request: pytest.FixtureRequest, photos: Path, sam2: str, tmp_path_factory: pytest.TempPathFactory
) -> Indexed:
    layout = LAYOUTS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    weights = layout.write(folder / "weights")
    segmenter = sam2 if layout.segmenter == "sam2" else layout.segmenter
    words = ["index", str(photos), "--collection", "c", "--data", str(folder / "data")]
    # The bare folder: its files tell the kind.
    words += ["--embedder", str(weights), "--segmenter", segmenter, "--pixels", "original"]
    assert main([*words, "--json"]) == 0
    return Indexed(layout, weights, folder / "data")


def search_words(indexed: Indexed, photos: Path, *more: str) -> list[str]:
    where = ["search", "--collection", "c", "--data", str(indexed.data), "--json"]
    region = ["--image", str(photos / "0.png"), "--box", "8,10,40,50", "--limit", "3"]
    return [*where, *region, *more]


def test_a_region_and_an_instruction_find_entities(
    indexed: Indexed, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(search_words(indexed, photos, "--text", "the same, but blue")) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(hit["image_id"] for hit in found["hits"]) == ["0.png", "1.png", "2.png"]
    assert found["regions"][0]["box"] == [8, 10, 40, 50]
    for hit in found["hits"]:
        assert set(hit["parts"]) == {"entity", "global", "text_entity", "text_image", "objectness"}
        assert all(
            np.isfinite(part["raw"]) and -1.001 <= part["raw"] <= 1.001 for part in hit["parts"].values()
        )
        assert 0 <= hit["score"] <= 1


def test_words_alone_and_an_indexed_image_ask_too(
    indexed: Indexed, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["search", "--collection", "c", "--data", str(indexed.data), "--json"]
    for words in (["--text", "a red thing"], ["--image-id", "1.png", "--include-self"]):
        capsys.readouterr()
        assert main([*where, *words]) == 0
        assert len(json.loads(capsys.readouterr().out)["hits"]) == 3


@pytest.mark.slow
def test_the_server_answers_as_the_library_does(
    indexed: Indexed, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(search_words(indexed, photos)) == 0
    ours = json.loads(capsys.readouterr().out)
    place = served if indexed.layout.own_process else served_here
    with place(indexed.data) as address, Client(address, timeout=60) as client:
        client.wait_until_ready()
        theirs = client.search("c", image=photos / "0.png", box=(8, 10, 40, 50), limit=3)
        assert [hit.image_id for hit in theirs.hits] == [hit["image_id"] for hit in ours["hits"]]
        for one, other in zip(theirs.hits, ours["hits"], strict=True):
            assert one.score == pytest.approx(other["score"], abs=1e-4)
        # A model that the server was not told to offer is not read for a client.
        with pytest.raises(ModelNotFound, match="does not offer"):
            client.create_collection("d", embedder=f"dual_encoder:{photos}")
        # The collection's own may be used again.
        stored = client.get_collection("c")
        client.create_collection("e", embedder=stored.embedder.name, segmenter="dummy")
        client.upsert("e", [(photos / "1.png").read_bytes()], ids=["one"])
        assert client.get_collection("e").images == 1


def test_a_collection_finds_its_model_where_it_was_moved_to(
    indexed: Indexed, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "models" / indexed.weights.name
    moved.parent.mkdir()
    indexed.weights.rename(moved)
    try:
        assert main(search_words(indexed, photos)) == 1
        monkeypatch.setenv("REGIONSEARCH_MODELS", str(moved.parent))
        assert main(search_words(indexed, photos)) == 0
    finally:
        moved.rename(indexed.weights)


@pytest.mark.slow
def test_other_weights_in_the_same_folder_are_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = tiny_clip(tmp_path / "weights")
    data = tmp_path / "data"
    words = ["index", str(photos), "--collection", "c", "--data", str(data), "--segmenter", "dummy"]
    assert main([*words, "--embedder", str(weights)]) == 0
    tensors = load_file(weights / "model.safetensors")
    name = next(key for key, value in tensors.items() if value.ndim == 2)
    tensors[name] = tensors[name] + torch.ones_like(tensors[name])
    save_file(tensors, weights / "model.safetensors", metadata={"format": "pt"})
    capsys.readouterr()
    words = ["search", "--collection", "c", "--data", str(data), "--text", "red"]
    done = subprocess.run(
        [sys.executable, "-m", "regionsearch", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "was made with embedder" in done.stderr


@contextmanager
def served(data: Path) -> Iterator[str]:
    """`regionsearch serve` as a process; its address."""
    words = [sys.executable, "-m", "regionsearch", "serve", "--data", str(data), "--address", "127.0.0.1:0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


@contextmanager
def served_here(data: Path) -> Iterator[str]:
    """A server on a real port, in threads of this process."""
    with DataDirectory(data, "write") as directory:
        models, limits = ModelRegistry(1), Limits()
        server = Server(Address("127.0.0.1", 0), limits)
        server.start(Backend(directory, models, SearchEngine(models, limits), limits))
        try:
            yield str(server.address)
        finally:
            server.stop(1)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
