"""Drawn photos of two things each, a data directory and a server of them, and how both are asked."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw
import pytest

from regionsearch.cli import main
from regionsearch.collection import DataDirectory
from regionsearch.collection.records import PixelsKept
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


@contextmanager
def served_photos(folder: Path, pixels_kept: Mapping[str, PixelsKept]) -> Iterator[Served]:
    """Collections of the photos, a server of them, and photo 3 as a file.

    pixels_kept: what each collection keeps of the photos, by its name.
    """
    data, query = folder / "data", folder / "query.png"
    query.write_bytes(photo(3))
    models, limits = ModelRegistry(1), Limits()
    embedder, segmenter = models.embedder("dummy"), models.segmenter("dummy")
    images = [EncodedImage(f"{number:02}.png", photo(number)) for number in range(PHOTOS)]
    with DataDirectory(data, "write") as directory:
        for name, pixels in pixels_kept.items():
            spec = collection_spec(name, embedder, segmenter, pixels=pixels)
            upsert_images(
                directory.create_collection(spec), Pipeline(embedder, segmenter, pixels=pixels), images
            )
        server = Server(Address("127.0.0.1", 0), limits)
        server.start(Backend(directory, models, SearchEngine(models, limits), limits))
        try:
            yield Served(data, str(server.address), str(query))
        finally:
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
