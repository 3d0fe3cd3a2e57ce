"""What docs/api.md and docs/operations.md show can be done as it stands there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from regionsearch.client import Answer, Client
from regionsearch.client.blocking_images import ImageCalls
from regionsearch.collection import DataDirectory
from regionsearch.config import Limits
from regionsearch.models.dummy import COLOURS
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.server import Server

THINGS = [(40, 30), (240, 30), (440, 30), (40, 250), (240, 250), (440, 250)]
"""Left and top edges, pixels, of things of 180 by 180."""


def picture(things: int, first_colour: int) -> np.ndarray:
    """(480, 640, 3) uint8: so many things of different colours on white."""
    colours = [colour for name, colour in COLOURS.items() if name != "white"]
    pixels = np.full((480, 640, 3), 255, np.uint8)
    for number, (left, top) in enumerate(THINGS[:things]):
        pixels[top : top + 180, left : left + 180] = colours[(first_colour + number) % len(colours)]
    return pixels


class Asking:
    """A client that notes what it was answered."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.answers: list[Answer] = []

    def search(self, *arguments: Any, **fields: Any) -> Answer:
        answer = self._client.search(*arguments, **fields)
        self.answers.append(answer)
        # To models that know colours alone no dog is a good match.
        assert answer.hits or "min_score" in fields, fields
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@contextmanager
def serving(folder: Path) -> Iterator[Client]:
    """A client of a real server on a real port, which keeps its data and snapshots below the folder."""
    with DataDirectory(folder / "data", "write") as directory:
        models, limits = ModelRegistry(1), Limits()
        server = Server(Address("127.0.0.1", 0), limits)
        engine = SearchEngine(models, limits)
        server.start(Backend(directory, models, engine, limits, snapshots=folder / "snapshots"))
        try:
            with Client(str(server.address), timeout=20) as client:
                yield client
        finally:
            server.stop(1)


def test_what_is_done_to_collections_goes_as_the_page_says(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (repository / "docs" / "operations.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 8
    monkeypatch.chdir(tmp_path)
    PilImage.fromarray(picture(3, 3)).save("photo.jpg")
    with serving(tmp_path) as client:
        program = "\n".join(blocks)
        exec(compile(program, "docs/operations.md", "exec"), {"client": client})
    said = capsys.readouterr().out
    for line in (
        "400 images with 800 entities",
        "2024/0007 0 person",
        "a red sign",
        "81 images, 81 entities",
        "400 images as of one moment",
        "78 images deleted",
        "before: mine",
        "mine-monday mine 320",
    ):
        assert line in said, said


def test_the_questions_of_the_page_are_answered(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (repository / "docs" / "api.md").read_text(encoding="utf-8")
    block = re.search(r"^### Asking in Python$.*?^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert block is not None
    monkeypatch.chdir(tmp_path)
    PilImage.fromarray(picture(6, 3)).save("query.jpg")
    outline = np.zeros((480, 640), np.uint8)
    outline[30:180, 40:200] = 255
    PilImage.fromarray(outline).save("outline.png")
    with serving(tmp_path) as client:
        client.create_collection("photos", embedder="dummy", segmenter="dummy")
        pictures = [picture(6, 3), *(picture(3 + number % 4, number) for number in range(30))]
        names = ["a", "b", "c", *(f"d{number}" for number in range(28))]
        # b and c have things enough to be pointed at.
        pictures[1], pictures[2] = picture(4, 5), picture(3, 8)
        # A tenth of the size has the same things in it.
        client.upsert("photos", [pixels[::10, ::10] for pixels in pictures], ids=names)
        asking = Asking(client)
        exec(compile(block[1], "docs/api.md", "exec"), {"client": asking})
    assert len(asking.answers) > 20
    assert asking.answers[1].hits[0].image_id == "a"
    assert {len(hit.matches) for answer in asking.answers for hit in answer.hits} == {0, 1, 2}
    assert "no image 'nobody'" in capsys.readouterr().out


def test_the_page_has_the_signatures_of_methods_for_images(repository: Path) -> None:
    page = (repository / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*timeout=None)`[^|]*\|$", page, re.MULTILINE)
    written = {name: re.sub(r"\s", "", said) for name, said in rows}
    methods = {name: method for name, method in vars(ImageCalls).items() if not name.startswith("_")}
    assert set(written) == set(methods)
    for name, method in methods.items():
        bare = [
            parameter.replace(annotation=inspect.Parameter.empty)
            for parameter in list(inspect.signature(method).parameters.values())[2:]
        ]
        said = re.sub(r"\s", "", str(inspect.Signature(bare)))[1:-1].replace("'", '"')
        assert written[name] == said, name
