"""The two clients against one server: equal answers, equal errors, every kind of picture."""

from __future__ import annotations

import inspect
import io
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from regionsearch.client import Answer, AsyncClient, Client, Example, Placement, Query, Region
from regionsearch.client.pictures import encoded
from regionsearch.collection import DataDirectory
from regionsearch.config import Limits
from regionsearch.errors import (
    CollectionExists,
    CollectionNotFound,
    ImageNotFound,
    InvalidImage,
    InvalidRecord,
    InvalidRegion,
    InvalidRequest,
    Unavailable,
)
from regionsearch.images import decode_image
from regionsearch.models.registry import ModelRegistry
from regionsearch.regions import Box, Mask, Point, RegionPrompt
from regionsearch.search.engine import SearchEngine
from regionsearch.serving.address import Address
from regionsearch.serving.backend import Backend
from regionsearch.serving.server import Server


def picture(seed: int) -> np.ndarray:
    """(40, 60, 3) uint8: two coloured blocks on white; no two seeds below 30 are equal."""
    pixels = np.full((40, 60, 3), 255, dtype=np.uint8)
    colours = [(220, 20, 20), (20, 40, 220), (20, 160, 40), (250, 230, 20), (120, 20, 140), (20, 220, 230)]
    pixels[8:32, 5:20] = colours[seed % 6]
    pixels[5:35, 35:55] = colours[(seed + 1 + seed // 6) % 6]
    return pixels


def png_of(pixels: np.ndarray) -> bytes:
    target = io.BytesIO()
    PilImage.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with DataDirectory(tmp_path_factory.mktemp("client") / "data", "write") as directory:
        models, limits = ModelRegistry(1), Limits()
        server = Server(Address("127.0.0.1", 0), limits)
        server.start(Backend(directory, models, SearchEngine(models, limits), limits))
        yield str(server.address)
        server.stop(1)


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address, timeout=20) as client:
        client.wait_until_ready()
        client.create_collection("photos", embedder="dummy", segmenter="dummy", pixels="original")
        client.upsert(
            "photos",
            [picture(seed) for seed in range(10)],
            ids=[f"p{seed}" for seed in range(10)],
            payloads=[{"n": seed} for seed in range(10)],
        )
        yield client


async def test_both_clients_give_equal_answers(client: Client, address: str) -> None:
    async with AsyncClient(address) as other:
        info = await other.wait_until_ready()
        assert info == client.server_info() == await other.server_info()
        assert await other.get_collection("photos") == client.get_collection("photos")
        assert [found async for found in other.list_collections(page_size=1)] == list(
            client.list_collections(page_size=1)
        )
        assert [found async for found in other.list_images("photos", page_size=3)] == list(
            client.list_images("photos", page_size=3)
        )
        stored = client.get_image("photos", "p3", entities=True, masks=True, vectors=True, pixels=True)
        again = await other.get_image("photos", "p3", entities=True, masks=True, vectors=True, pixels=True)
        assert (again.summary, again.payload, again.entities, again.pixels) == (
            stored.summary,
            stored.payload,
            stored.entities,
            stored.pixels,
        )
        assert np.array_equal(again.vectors, stored.vectors)
        for query in (
            {"text": "a red thing"},
            {"image": picture(2), "box": (5, 8, 20, 32), "points": [(10, 10)], "text": "blue"},
            {"image_id": "p4", "entity": 1, "include_self": True, "weights": {"global": 0}},
            {"vector": stored.vectors[0], "limit": 3, "masks": False},
            {"text": "a red thing", "rerank": "pairwise", "rerank_top": 4, "rerank_weight": 2.5},
            {"image": picture(2), "text": "red", "rerank": "pairwise_instructed"},
            {"image": picture(2), "regions": [Region(box=(5, 8, 20, 32)), Region(points=[(40, 20)])]},
            {"liked": ["p1", Example("p2", 0)], "disliked": ["p3"], "all_entities": 3},
            {"text": "red", "placements": [Placement(part="left_half")], "group_by": "entity"},
        ):
            one, two = client.search("photos", **query), await other.search("photos", **query)
            assert (one.hits, one.regions, one.background) == (two.hits, two.regions, two.background)
            assert one.hits
            assert client.search("photos", Query(**query)).hits == one.hits
            assert (await other.search("photos", Query(**query), limit=2)).hits == one.hits[:2]


async def test_both_clients_walk_pages_and_ask_many_questions_alike(client: Client, address: str) -> None:
    async with AsyncClient(address) as other:
        pages = list(client.search_pages("photos", text="red", limit=4))
        again = [page async for page in other.search_pages("photos", text="red", limit=4)]
        assert [page.hits for page in pages] == [page.hits for page in again]
        assert [len(page.hits) for page in pages] == [4, 4, 2]
        hits = list(client.search_all("photos", Query(text="red"), limit=3))
        assert hits == [hit async for hit in other.search_all("photos", Query(text="red"), limit=3)]
        assert hits == [hit for page in pages for hit in page.hits]
        questions = [Query(text=f"{number} red"[number % 3 :], limit=3) for number in range(20)]
        questions[7] = Query(image_id="nobody")
        one = client.search_many("photos", questions)
        two = await other.search_many("photos", questions)
        for number, (found, too) in enumerate(zip(one, two, strict=True)):
            if isinstance(found, Answer) and isinstance(too, Answer):
                assert found.hits == too.hits
            else:
                assert number == 7
                assert isinstance(found, ImageNotFound)
                assert isinstance(too, ImageNotFound)
                assert found.message == too.message


async def test_both_clients_write_alike(client: Client, address: str) -> None:
    pictures = [picture(0), b"junk", picture(1)]
    async with AsyncClient(address) as other:
        for name in ("sync", "async"):
            client.create_collection(name, embedder="dummy", segmenter="dummy")
        one = client.upsert("sync", pictures, ids=["a", "b", None], payloads=[None, None, {"x": 1}])
        two = await other.upsert("async", pictures, ids=["a", "b", None], payloads=[None, None, {"x": 1}])
        assert one == two
        assert [image.position for image in one.upserted] == [0, 2]
        assert [failure.position for failure in one.failures] == [1]
        streamed = client.upsert_stream("sync", pictures * 5)
        assert streamed == await other.upsert_stream("async", pictures * 5)
        assert (streamed.received, streamed.failed) == (15, 5)
        one_deleted = client.delete_images("sync", ["a", "nobody"])
        assert one_deleted == await other.delete_images("async", ["a", "nobody"])
        await other.delete_collection("sync")
        await other.delete_collection("async")
        await other.create_collection("async", embedder="dummy", segmenter="dummy")
        client.delete_collection("async")


async def test_both_clients_raise_alike(client: Client, address: str) -> None:
    async with AsyncClient(address) as other:
        cases = [
            (CollectionNotFound, "get_collection", ("nowhere",), {}),
            (CollectionExists, "create_collection", ("photos",), {"embedder": "dummy", "segmenter": "dummy"}),
            (ImageNotFound, "get_image", ("photos", "nobody"), {}),
            (CollectionNotFound, "upsert", ("nowhere", [picture(0)]), {}),
            (CollectionNotFound, "upsert_stream", ("nowhere", [picture(0)] * 50), {}),
            (InvalidRequest, "search", ("photos",), {}),
            (CollectionNotFound, "search_many", ("nowhere", [Query(text="a")]), {}),
            (InvalidRequest, "delete_images", ("photos", []), {}),
            (InvalidImage, "upsert_stream", ("photos", [object()]), {}),
        ]
        for kind, method, arguments, options in cases:
            with pytest.raises(kind) as one:
                getattr(client, method)(*arguments, **options)
            with pytest.raises(kind) as two:
                await getattr(other, method)(*arguments, **options)
            assert (one.value.message, one.value.field) == (two.value.message, two.value.field)


def test_both_clients_have_the_same_methods() -> None:
    def signatures(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in vars(kind).items()
            if not name.startswith("_") and callable(value)
        }

    assert signatures(Client) == signatures(AsyncClient)


def test_every_kind_of_picture_arrives_with_the_pixels_it_shows(client: Client, tmp_path: Path) -> None:
    pixels = picture(3)
    path = tmp_path / "three.png"
    path.write_bytes(png_of(pixels))
    forms = [
        path,
        str(path),
        path.read_bytes(),
        pixels,
        PilImage.fromarray(pixels),
        np.asfortranarray(pixels),
    ]
    answers = [client.search("photos", image=form, limit=4) for form in forms]
    assert answers[0].hits[0].image_id == "p3"
    assert all(answer.hits == answers[0].hits for answer in answers)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"])
def test_a_pil_image_of_any_mode_becomes_a_picture(mode: str) -> None:
    if mode == "I;16":
        image = PilImage.fromarray(np.full((4, 6), 40_000, dtype=np.uint16))
    else:
        image = PilImage.fromarray(picture(0)).convert(mode)
    decoded = decode_image(encoded(image))
    assert (decoded.width, decoded.height) == image.size


@pytest.mark.parametrize("kind", ["jpg", "png", "tiff"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_file_and_its_pil_image_have_the_same_coordinates(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    turned = PilImage.fromarray(picture(0))
    exif = turned.getexif()
    exif[0x0112] = orientation  # 3: to be shown half a turn on, 6: a quarter turn clockwise
    path = tmp_path / f"turned.{kind}"
    turned.save(path, exif=exif)
    upright = decode_image(encoded(path))
    assert (upright.width, upright.height) == ((40, 60) if orientation == 6 else (60, 40))
    with PilImage.open(path) as opened:
        assert np.array_equal(decode_image(encoded(opened)).pixels, upright.pixels)


@pytest.mark.parametrize(
    "thing",
    [
        "no/such/file.jpg",
        Path(),
        np.zeros((4, 4), dtype=np.float32),
        np.zeros((4, 4, 2), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
        {"a": 1},
    ],
    ids=["missing", "folder", "floats", "two channels", "no pixels", "dictionary"],
)
def test_what_is_no_picture_is_refused_before_it_is_sent(thing: object) -> None:
    with pytest.raises(InvalidImage) as caught:
        encoded(thing)  # type: ignore[arg-type]
    assert caught.value.field == "image"


@pytest.mark.parametrize(
    ("said", "kind", "field"),
    [
        ({"box": (1, 2, 3)}, InvalidRegion, "box"),
        ({"box": (5, 5, 5, 9)}, InvalidRegion, None),
        ({"points": [(1,)]}, InvalidRegion, "points"),
        ({"points": [(1, 2, 3)]}, InvalidRegion, "points"),
        ({"polygon": [(1, 2, 3)]}, InvalidRegion, "polygon"),
        ({"polygon": [(1, 2), (3, 4)]}, InvalidRegion, None),
        ({"box": (0, 0, 9, 9), "mask": Mask.full(40, 60)}, InvalidRegion, None),
        ({"box": (0, 0, 9, 9), "mask": b"png"}, InvalidRegion, "mask"),
        ({"mask": "no/such.png"}, InvalidImage, "mask"),
        ({"mask": np.zeros((4, 4), dtype=np.float32)}, InvalidRegion, "mask"),
        ({"normalised": True}, InvalidRequest, "normalised"),
        (
            {"region": RegionPrompt(box=Box(0, 0, 9, 9)), "points": [(1, 2)]},
            InvalidRegion,
            "region",
        ),
        ({"limit": -1}, InvalidRequest, "limit"),
        ({"entity": 2**32}, InvalidRequest, "entity"),
        ({"vector": [[1.0], [2.0]]}, InvalidRequest, "vector"),
        ({"vector": ["a"]}, InvalidRequest, "vector"),
        ({"limit": 2.5}, InvalidRequest, "limit"),
        ({"limit": "2"}, InvalidRequest, "limit"),
        ({"text": 5}, InvalidRequest, "text"),
        ({"text": "a\udcff"}, InvalidRequest, "text"),
        ({"image_id": "a\udcff"}, InvalidRequest, "image_id"),
        ({"weights": {"entity": "x"}}, InvalidRequest, "weights"),
        ({"weights": {"a\udcff": 1}}, InvalidRequest, "weights"),
        ({"weights": {5: 1}}, InvalidRequest, "weights"),
        ({"weights": [1, 2]}, InvalidRequest, "weights"),
        ({"box": "abcd"}, InvalidRegion, "box"),
        ({"box": 7}, InvalidRegion, "box"),
        ({"points": [("x", 1)]}, InvalidRegion, "points"),
        ({"polygon": [1, 2, 3]}, InvalidRegion, "polygon"),
        ({"rerank": "twice"}, InvalidRequest, "rerank"),
        ({"rerank_top": 4}, InvalidRequest, "rerank_top"),
        ({"rerank_weight": 4}, InvalidRequest, "rerank_weight"),
        ({"rerank": "pairwise", "rerank_top": -1}, InvalidRequest, "rerank_top"),
        ({"rerank": "pairwise", "rerank_weight": "1"}, InvalidRequest, "rerank_weight"),
        ({"timeout": -1}, InvalidRequest, "timeout"),
        ({"timeout": 0}, InvalidRequest, "timeout"),
        ({"timeout": float("nan")}, InvalidRequest, "timeout"),
        ({"timeout": float("inf")}, InvalidRequest, "timeout"),
        ({"timeout": "1"}, InvalidRequest, "timeout"),
    ],
)
def test_what_cannot_be_said_is_refused_before_it_is_sent(
    client: Client, said: dict[str, object], kind: type[InvalidRequest], field: str | None
) -> None:
    with pytest.raises(kind) as caught:
        client.search("photos", image=picture(0), **said)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("method", "arguments", "field"),
    [
        ("create_collection", {"name": "BAD"}, "name"),
        ("create_collection", {"name": "x", "embedder": "BAD"}, "embedder"),
        ("get_collection", {"name": "BAD"}, "name"),
        ("delete_collection", {"name": "BAD"}, "name"),
        ("search", {"collection": "BAD", "text": "x"}, "collection"),
        ("get_image", {"collection": "photos", "image_id": "BAD"}, "image_id"),
        ("delete_images", {"collection": "photos", "image_ids": ["a", "BAD"]}, "image_ids[1]"),
        ("upsert", {"collection": "BAD", "images": [picture(0)]}, "collection"),
        ("upsert", {"collection": "photos", "images": [picture(0)], "ids": ["BAD"]}, "image_id"),
        (
            "upsert",
            {"collection": "photos", "images": [picture(0)], "payloads": [{"a": "BAD"}]},
            "payload_json",
        ),
        ("upsert_stream", {"collection": "photos", "images": [picture(0)], "ids": ["BAD"]}, "image_id"),
        ("upsert_stream", {"collection": "photos", "images": [picture(0)], "timeout": -1}, "timeout"),
    ],
)
async def test_text_that_is_no_unicode_is_refused_by_both_clients_before_it_is_sent(
    client: Client, address: str, method: str, arguments: dict[str, object], field: str
) -> None:
    def broken(value: object) -> object:
        if isinstance(value, list):
            return [broken(part) for part in value]
        if isinstance(value, dict):
            return {key: broken(part) for key, part in value.items()}
        return "a\udcff" if isinstance(value, str) and value == "BAD" else value

    said = broken(arguments)
    assert isinstance(said, dict)
    with pytest.raises(InvalidRequest) as caught:
        getattr(client, method)(**said)
    async with AsyncClient(address) as other:
        with pytest.raises(InvalidRequest) as caught_too:
            await getattr(other, method)(**said)
    assert caught.value.field == caught_too.value.field == field
    assert caught.value.message == caught_too.value.message


@pytest.mark.parametrize("timeout", [-1, 0, float("nan"), "1"])
def test_a_client_is_refused_a_timeout_that_is_no_time(address: str, timeout: float) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidRequest, match="timeout"):
            kind(address, timeout=timeout)


def test_a_region_is_the_same_whole_or_in_its_parts(client: Client) -> None:
    whole = RegionPrompt((Point(10, 10), Point(50, 20, positive=False)), box=Box(5, 8, 20, 32))
    one = client.search("photos", image=picture(1), region=whole)
    two = client.search(
        "photos", image=picture(1), box=(5, 8, 20, 32), points=[(10, 10, 1), Point(50, 20, positive=False)]
    )
    assert (one.hits, one.regions) == (two.hits, two.regions)
    assert one.regions[0].prompt == whole


def test_ids_and_payloads_must_be_as_many_as_pictures(client: Client) -> None:
    client.create_collection("counted", embedder="dummy", segmenter="dummy")
    for ids in (["a"], ["a", "b", "c"]):
        with pytest.raises(InvalidRequest, match="as many"):
            client.upsert("counted", [picture(0), picture(1)], ids=ids)
    with pytest.raises(InvalidRecord, match="JSON"):
        client.upsert("counted", [picture(0)], payloads=[{"when": object()}])
    assert client.get_collection("counted").images == 0


async def test_a_file_that_cannot_be_read_is_a_failure_and_the_others_are_stored(
    client: Client, address: str, tmp_path: Path
) -> None:
    client.create_collection("files", embedder="dummy", segmenter="dummy")
    files = [tmp_path / f"{number:02}.png" for number in range(20)]
    for number, file in enumerate(files):
        if number not in (3, 17):
            file.write_bytes(png_of(picture(number)))
    ids = [None if number == 3 else file.name for number, file in enumerate(files)]
    async with AsyncClient(address) as other:
        reports = [client.upsert("files", files, ids=ids), await other.upsert("files", files, ids=ids)]
        streams = [
            client.upsert_stream("files", files, ids=ids),
            await other.upsert_stream("files", files, ids=ids),
        ]
    for report in (*reports, *streams):
        assert [(failure.image_id, failure.position, failure.reason) for failure in report.failures] == [
            ("", 3, "INVALID_IMAGE"),
            ("17.png", 17, "INVALID_IMAGE"),
        ]
        for failure in report.failures:
            assert (
                failure.message == f"cannot read {str(files[failure.position])!r}: No such file or directory"
            )
    assert all(len(report.upserted) == 18 for report in reports)
    assert all((stream.received, stream.failed, stream.replaced) == (20, 2, 18) for stream in streams)
    assert client.get_collection("files").images == 18


def test_pictures_are_read_as_they_are_sent_not_all_at_once(client: Client) -> None:
    client.create_collection("lazy", embedder="dummy", segmenter="dummy")

    def pictures() -> Iterator[np.ndarray]:
        for seed in range(20):
            # A batch of eight leaves once the ninth is known not to fit.
            assert client.get_collection("lazy").images >= seed - 9 - 1
            yield picture(seed)

    assert len(client.upsert("lazy", pictures()).upserted) == 20


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with Client(address, timeout=5) as client:
            with pytest.raises(Unavailable):
                client.create_collection("c")
            with pytest.raises(Unavailable, match=r"within 0\.3 s"):
                client.wait_until_ready(timeout=0.3)
