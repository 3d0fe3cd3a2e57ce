"""A folder with a published layout is indexed, served and asked, by its name alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from drawn_photos import draw_folder
from tiny_dual_encoder import Family, write_tiny_dual_encoder

from regionsearch.cli import main
from regionsearch.client import Client
from regionsearch.collection import DataDirectory
from regionsearch.config import Limits
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.server import Server


@pytest.mark.parametrize(
    ("family", "options"), [("clip", ""), ("siglip", ",regions=crop"), ("siglip2", ",patches=12")]
)
def test_photos_are_indexed_served_and_found_by_region_and_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], family: Family, options: str
) -> None:
    folder = write_tiny_dual_encoder(tmp_path / "model", family)
    photos = draw_folder(tmp_path / "drawn", 8).images
    data = tmp_path / "data"
    models = ["--embedder", f"{folder}{options}", "--segmenter", "dummy"]
    words = ["index", str(photos), "--collection", "c", "--data", str(data), *models, "--json"]
    capsys.readouterr()
    assert main(words) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["images"] == 8
    assert report["failed"] == []
    asked = sorted(photos.iterdir())[0]
    limits, registry = Limits(), ModelRegistry(1)
    with DataDirectory(data, "write") as directory:
        backend = Backend(directory, registry, SearchEngine(registry, limits), limits)
        server = Server(Address("127.0.0.1", 0), limits)
        server.start(backend)
        try:
            with Client(str(server.address), timeout=20) as client:
                record = client.get_image("c", asked.name, entities=True)
                box = record.entities[0].box
                hits = client.search("c", image=asked.read_bytes(), box=box, text="a red thing").hits
                by_pixels = client.search("c", image=asked.read_bytes(), box=box).hits
        finally:
            server.stop(1)
    assert len(hits) == 8
    assert {"entity", "global", "text_entity", "text_image"} <= set(hits[0].parts)
    # The picture itself holds its own region, with cosine 1.
    assert by_pixels[0].image_id == asked.name
    # A soft maximum lies a little below the best cosine; what the region was matched to says that itself.
    assert by_pixels[0].matches[0].raw > 0.9999
