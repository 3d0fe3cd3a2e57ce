"""VIRTUE as an embedder, on a tiny random checkpoint in the published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_virtue import HIDDEN, write_tiny_virtue

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRegion, InvalidRequest, NotAccepted
from regionsearch.images import Image
from regionsearch.models.embedder import EncodableQuery, ModelInput
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime
from regionsearch.models.sam2.image_features import SamImageFeatures, source_of
from regionsearch.models.sam2.loading import load_sam2
from regionsearch.models.virtue import embedder, templates
from regionsearch.models.virtue.embedder import VirtueEmbedder
from regionsearch.models.virtue.features import VirtueFeatures
from regionsearch.regions import Box, Mask, Point, RegionPrompt

CPU = Runtime(device="cpu", dtype="fp32")
BOXES = (Box(0, 0, 30, 30), Box(40, 10, 90, 60), Box(5, 50, 55, 80))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_virtue(tmp_path_factory.mktemp("virtue"))


@pytest.fixture(scope="module")
def model(folder: Path) -> VirtueEmbedder:
    return cast(VirtueEmbedder, ModelRegistry(runtime=CPU).embedder(str(folder)))


def picture(seed: int, height: int = 80, width: int = 100) -> Image:
    """Blocks of random colours: detail at the scale of the boxes."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image(blocks.repeat(10, axis=0).repeat(10, axis=1))


def entities(image: Image, boxes: tuple[Box, ...] = BOXES) -> Entities:
    masks = [Mask.from_box(box, image.height, image.width) for box in boxes]
    return Entities.from_masks(masks, np.ones(len(masks), dtype=np.float32))


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return (one * other).sum(axis=-1)


def assert_same(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(one, other, atol=2e-6)


def test_images_entities_and_words_become_unit_vectors(model: VirtueEmbedder) -> None:
    image = picture(0)
    [vectors] = model.embed_images([image], [entities(image)])
    texts = model.embed_texts(["a red thing", "another"])
    assert vectors.image.shape == (HIDDEN,) == (model.info.dimension,)
    assert vectors.entities.shape == (3, HIDDEN)
    for rows in (vectors.image[None], vectors.entities, texts):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert model.embed_texts([]).shape == (0, HIDDEN)
    assert model.embed_images([], []) == []


def test_different_boxes_give_different_vectors_under_the_same_words(model: VirtueEmbedder) -> None:
    image = picture(0)
    given = [ModelInput(image, "<|image_pad|>\nWhat?", RegionPrompt(box=box)) for box in BOXES]
    vectors = model.embed_inputs([*given, ModelInput(image, "<|image_pad|>\nWhat?")])
    between = vectors @ vectors.T
    assert (between[~np.eye(4, dtype=bool)] < 0.9999).all()


def test_an_image_has_the_same_vectors_in_any_company(model: VirtueEmbedder) -> None:
    images = [picture(1), picture(2, 60, 140)]
    found = [entities(images[0]), entities(images[1], BOXES[:1])]
    together = model.embed_images(images, found)
    for image, of_image, vectors in zip(images, found, together, strict=True):
        [alone] = model.embed_images([image], [of_image])
        assert_same(alone.image, vectors.image)
        assert_same(alone.entities, vectors.entities)


def test_features_handed_in_are_those_it_would_compute(model: VirtueEmbedder) -> None:
    image = picture(4)
    [features] = model.backbone.features([image])
    [given] = model.embed_images([image], [entities(image)], [features])
    [computed] = model.embed_images([image], [entities(image)])
    assert_same(given.image, computed.image)
    assert_same(given.entities, computed.entities)
    query = EncodableQuery(image=image, prompt=RegionPrompt(box=BOXES[0]), text="at night")
    with_features = EncodableQuery(image=query.image, prompt=query.prompt, text=query.text, features=features)
    assert_same(model.embed_query(query).entity_arm, model.embed_query(with_features).entity_arm)


def test_a_query_by_a_box_without_words_is_the_entity_with_that_box(model: VirtueEmbedder) -> None:
    image = picture(5)
    [stored] = model.embed_images([image], [entities(image)])
    asked = model.embed_query(EncodableQuery(image=image, prompt=RegionPrompt(box=BOXES[1])))
    assert asked.region is not None
    assert_same(asked.region, stored.entities[1])
    assert asked.text is None


def test_the_instruction_is_read_into_region_and_image(model: VirtueEmbedder) -> None:
    image = picture(6)
    region = RegionPrompt(box=BOXES[0])
    bare = model.embed_query(EncodableQuery(image=image, prompt=region))
    told = model.embed_query(EncodableQuery(image=image, prompt=region, text="the same at night"))
    for before, after in ((bare.entity_arm, told.entity_arm), (bare.global_arm, told.global_arm)):
        assert cosines(before, after) < 0.999
    assert told.text is not None
    assert_same(told.text, model.embed_texts(["the same at night"])[0])
    exact = model.embed_inputs(
        [
            ModelInput(image, templates.query_region_words(region, "the same at night"), region),
            ModelInput(image, templates.query_image_words("the same at night")),
        ]
    )
    assert_same(told.entity_arm, exact[0])
    assert_same(told.global_arm, exact[1])


def test_a_picture_without_a_region_means_its_whole_frame(model: VirtueEmbedder) -> None:
    image = picture(7)
    whole = RegionPrompt(box=Box(0, 0, image.width, image.height))
    assert_same(
        model.embed_query(EncodableQuery(image=image)).entity_arm,
        model.embed_query(EncodableQuery(image=image, prompt=whole)).entity_arm,
    )


def test_points_boxes_and_masks_each_mean_something_else(model: VirtueEmbedder) -> None:
    image = picture(8)
    box = BOXES[1]
    half = np.zeros((image.height, image.width), dtype=bool)
    for step in range(50):  # a triangle that fills the box's lower left half
        half[10 + step, 40 : 40 + step + 1] = True
    mask = Mask.from_array(half)
    assert mask.box() == box
    regions = [
        RegionPrompt(points=(Point(65, 35),)),
        RegionPrompt(box=box),
        RegionPrompt(mask=mask),
        RegionPrompt(mask=Mask.from_box(box, image.height, image.width)),
    ]
    vectors = model.embed_inputs([ModelInput(image, "<|image_pad|>", region) for region in regions])
    between = vectors @ vectors.T
    assert (between[~np.eye(4, dtype=bool)] < 0.99999).all()


def test_a_query_uses_the_callers_prompt_rather_than_the_segmenters_mask(model: VirtueEmbedder) -> None:
    image = picture(9)
    point = RegionPrompt(points=(Point(20, 20),))
    mask = Mask.from_box(BOXES[0], image.height, image.width)
    asked = model.embed_query(EncodableQuery(image=image, prompt=point, mask=mask))
    assert_same(asked.entity_arm, model.embed_query(EncodableQuery(image=image, prompt=point)).entity_arm)
    of_mask = model.embed_query(EncodableQuery(image=image, mask=mask))
    assert cosines(asked.entity_arm, of_mask.entity_arm) < 0.9999


def test_what_the_model_cannot_read_is_refused(model: VirtueEmbedder) -> None:
    image = picture(10)
    two = RegionPrompt(points=(Point(1, 1), Point(9, 9)))
    outside = RegionPrompt(points=(Point(500, 1),))
    refused: list[tuple[type[Exception], EncodableQuery]] = [
        (NotAccepted, EncodableQuery(image=image, prompt=two)),
        (NotAccepted, EncodableQuery(prompt=two)),
        (NotAccepted, EncodableQuery(mask=Mask.full(4, 4), text="a text")),
        (InvalidRegion, EncodableQuery(image=image, prompt=outside)),
        (InvalidRequest, EncodableQuery()),
        (InvalidRequest, EncodableQuery(text="  ")),
        (InvalidRequest, EncodableQuery(image=image, text="a <|image_pad|> more")),
    ]
    for error, query in refused:
        with pytest.raises(error):
            model.embed_query(query)
    bad_inputs = [
        (NotAccepted, ModelInput(text="a", region=two)),
        (NotAccepted, ModelInput(image, "<|image_pad|>", two)),
        (InvalidRequest, ModelInput()),
        (InvalidRequest, ModelInput(text="<|image_pad|> a")),
        (InvalidRequest, ModelInput(image, "no place for the picture")),
        (InvalidRequest, ModelInput(image, "<|image_pad|><|image_pad|>")),
    ]
    for error, given in bad_inputs:
        with pytest.raises(error):
            model.embed_inputs([given])


def test_inputs_are_independent_of_one_another_across_parts(
    model: VirtueEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "PICTURES_TOGETHER", 2)
    pictures = [picture(20 + number, 30, 40) for number in range(3)]
    given = [ModelInput(image, "<|image_pad|> a") for image in pictures]
    given.insert(1, ModelInput(text="words alone"))
    given.append(ModelInput(pictures[0], "<|image_pad|> a"))
    vectors = model.embed_inputs(given)
    assert_same(vectors[4], vectors[0])
    assert_same(vectors[1], model.embed_texts(["words alone"])[0])
    for place in (2, 3):
        assert_same(vectors[place], model.embed_inputs([given[place]])[0])
    assert model.embed_inputs([]).shape == (0, HIDDEN)


def test_inputs_without_a_string_and_candidates_are_worded_as_at_indexing(model: VirtueEmbedder) -> None:
    image = picture(11)
    [stored] = model.embed_images([image], [entities(image)])
    mask = Mask.from_box(BOXES[2], image.height, image.width)
    candidate = model.worded(ModelInput(image, None, RegionPrompt(mask=mask)), "candidate")
    # Worded as a box: the model was trained on boxes, not on masks.
    assert candidate.region == RegionPrompt(box=BOXES[2])
    vectors = model.embed_inputs(
        [ModelInput(image), ModelInput(image, None, RegionPrompt(box=BOXES[2])), candidate]
    )
    assert_same(vectors[0], stored.image)
    assert_same(vectors[1], stored.entities[2])
    assert_same(vectors[2], stored.entities[2])
    question = model.worded(ModelInput(image, "at night", RegionPrompt(box=BOXES[0])), "query")
    assert question.text == templates.query_region_words(RegionPrompt(box=BOXES[0]), "at night")
    assert model.worded(ModelInput(text="a cat"), "query").text == "a cat"


def test_tiny_and_very_long_pictures_are_read(model: VirtueEmbedder) -> None:
    for size in ((3, 5), (600, 2)):
        pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
        image = Image(pixels)
        [vectors] = model.embed_images([image], [Entities.whole_frame(*size)])
        assert np.isfinite(vectors.image).all()
        assert np.isfinite(vectors.entities).all()


def test_sams_features_are_handed_out_under_the_agreed_name(folder: Path, model: VirtueEmbedder) -> None:
    [features] = model.backbone.features([picture(12)])
    sam = load_sam2(str(folder / "sam2"), CPU)
    shared = features.part(source_of(sam, "virtue"))
    assert isinstance(shared, SamImageFeatures)
    assert shared.high_res is not None
    assert (shared.height, shared.width) == (80, 100)
    assert features.part(source_of(sam, "sam")) is None
    assert isinstance(features.part(model.backbone.source), VirtueFeatures)


def test_the_language_models_passes_stay_within_the_token_budget(folder: Path) -> None:
    small = Runtime(device="cpu", dtype="fp32", token_budget=1000)
    model = cast(VirtueEmbedder, ModelRegistry(runtime=small).embedder(str(folder)))
    calls = record_calls(model)
    image = picture(13)
    model.embed_images([image, image], [entities(image)] * 2)
    passes = [rows * length for name, rows, length in calls if name == "language"]
    assert max(passes) <= 1000
    assert len(passes) > 3


def test_rows_that_do_not_fit_the_memory_together_go_in_halves(
    model: VirtueEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(14)
    found = entities(image, (Box(10, 10, 20, 20), Box(30, 30, 40, 40), Box(50, 50, 60, 60)))
    [expected] = model.embed_images([image], [found])
    whole = model.network.forward
    passes: list[int] = []

    def scarce(batch: Any) -> torch.Tensor:
        passes.append(len(batch.input_ids))
        if len(batch.input_ids) > 1:
            raise torch.OutOfMemoryError("too many rows")
        return whole(batch)

    monkeypatch.setattr(model.network, "forward", scarce)
    [halved] = model.embed_images([image], [found])
    assert max(passes) == 3
    assert_same(halved.entities, expected.entities)


def test_the_cost_of_an_image_is_what_is_really_run(model: VirtueEmbedder) -> None:
    image = picture(15, 120, 160)
    random = np.random.default_rng(5)
    corners = random.uniform(0, 70, (32, 2))
    boxes = tuple(Box(x, y, x + 20, y + 30) for x, y in corners.round(1))
    found = entities(image, boxes)
    told = model.indexing_cost(image.height, image.width, found.boxes)
    calls = record_calls(model)
    model.embed_images([image], [found])
    vision = [rows for name, rows, _ in calls if name == "vision"]
    language = [(rows, length) for name, rows, length in calls if name == "language"]
    decoder = [rows for name, rows, _ in calls if name == "decoder"]
    assert (told.vision_passes, told.vision_patches) == (len(vision), sum(vision))
    assert told.sam_passes == len([name for name, _, _ in calls if name == "sam"]) == 1
    assert told.prompts == sum(decoder) == 33
    assert told.language_passes == len(language) == len(decoder) < 33
    assert told.language_tokens == sum(rows * length for rows, length in language)


def record_calls(model: VirtueEmbedder) -> list[tuple[str, int, int]]:
    """Every pass from here on: (part, rows, length of a row)."""
    calls: list[tuple[str, int, int]] = []
    network = model.network

    def hook(name: str, size: Any) -> Any:
        def note(_module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            calls.append((name, *size(given, named)))

        return note

    parts = (
        (network.visual, hook("vision", lambda given, _: (len(given[0]), 1))),
        (network.sam.vision_encoder, hook("sam", lambda given, _: (len(given[0]), 1))),
        (
            network.sam.mask_decoder.transformer,
            hook("decoder", lambda _, named: (len(named["point_embeddings"]), 1)),
        ),
        (network.language_model, hook("language", lambda _, named: named["inputs_embeds"].shape[:2])),
    )
    for module, note in parts:
        module.register_forward_pre_hook(note, with_kwargs=True)
    return calls


def test_half_precision_gives_nearly_the_same_vectors(folder: Path, model: VirtueEmbedder) -> None:
    half = Runtime(device="cpu", dtype="bf16")
    coarse = cast(VirtueEmbedder, ModelRegistry(runtime=half).embedder(str(folder)))
    assert coarse.info.fingerprint == model.info.fingerprint
    image = picture(16)
    given = [
        ModelInput(image, None, RegionPrompt(box=BOXES[0])),
        ModelInput(image, None, RegionPrompt(points=(Point(5, 5),))),
        ModelInput(image, None, RegionPrompt(mask=Mask.from_box(BOXES[1], 80, 100))),
        ModelInput(image),
        ModelInput(text="a red thing"),
    ]
    assert (cosines(coarse.embed_inputs(given), model.embed_inputs(given)) > 0.99).all()
