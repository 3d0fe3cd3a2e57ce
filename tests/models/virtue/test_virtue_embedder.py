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
from regionsearch.images import Image, encode_png
from regionsearch.ingest.pipeline import EncodedImage, Pipeline
from regionsearch.models.embedder import EncodableQuery, ImageVectors, ModelInput
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


@pytest.fixture(scope="module")
def image() -> Image:
    return picture(0)


@pytest.fixture(scope="module")
def features(model: VirtueEmbedder, image: Image) -> VirtueFeatures:
    """Of `image`: most of the time goes into them."""
    return model.backbone.features([image])[0]


@pytest.fixture(scope="module")
def stored(model: VirtueEmbedder, image: Image, features: VirtueFeatures) -> ImageVectors:
    return model.embed_images([image], [entities(image)], [features])[0]


def entities(image: Image, boxes: tuple[Box, ...] = BOXES) -> Entities:
    masks = [Mask.from_box(box, image.height, image.width) for box in boxes]
    return Entities.from_masks(masks, np.ones(len(masks), dtype=np.float32))


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return (one * other).sum(axis=-1)


def assert_same(one: NDArray[np.float32], other: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(one, other, atol=2e-6)


def test_images_entities_and_words_become_unit_vectors(model: VirtueEmbedder, stored: ImageVectors) -> None:
    texts = model.embed_texts(["a red thing", "another"])
    assert stored.image.shape == (HIDDEN,) == (model.info.dimension,)
    assert stored.entities.shape == (3, HIDDEN)
    for rows in (stored.image[None], stored.entities, texts):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert model.embed_texts([]).shape == (0, HIDDEN)
    assert model.embed_images([], []) == []


def test_each_region_gives_a_vector_of_its_own_under_the_same_words(
    model: VirtueEmbedder, image: Image
) -> None:
    box = BOXES[1]
    triangle = np.zeros((image.height, image.width), dtype=bool)
    for step in range(50):  # the lower left half of that box
        triangle[10 + step, 40 : 40 + step + 1] = True
    mask = Mask.from_array(triangle)
    assert mask.box() == box
    regions = [
        None,
        *(RegionPrompt(box=each) for each in BOXES),
        RegionPrompt(points=(Point(65, 35),)),
        RegionPrompt(points=(Point(15, 15),)),
        RegionPrompt(mask=mask),
        RegionPrompt(mask=Mask.from_box(box, image.height, image.width)),
    ]
    vectors = model.embed_inputs([ModelInput(image, "<|image_pad|>\nWhat?", region) for region in regions])
    between = vectors @ vectors.T
    assert (between[~np.eye(len(regions), dtype=bool)] < 0.99999).all()


def test_an_image_has_the_same_vectors_in_any_company(
    model: VirtueEmbedder, image: Image, stored: ImageVectors
) -> None:
    other = picture(2, 60, 140)
    found = [entities(other, BOXES[:1]), entities(image), entities(other, BOXES[1:2])]
    together = model.embed_images([other, image, other], found)
    assert_same(together[1].image, stored.image)
    assert_same(together[1].entities, stored.entities)
    assert_same(together[0].image, together[2].image)


def test_queries_with_features_are_those_without(
    model: VirtueEmbedder, image: Image, features: VirtueFeatures
) -> None:
    region = RegionPrompt(box=BOXES[0])
    without = model.embed_query(EncodableQuery(image=image, prompt=region, text="at night"))
    given = EncodableQuery(image=image, prompt=region, text="at night", features=features)
    assert_same(model.embed_query(given).entity_arm, without.entity_arm)
    assert_same(model.embed_query(given).global_arm, without.global_arm)


def test_a_query_by_a_box_without_words_is_the_entity_with_that_box(
    model: VirtueEmbedder, image: Image, features: VirtueFeatures, stored: ImageVectors
) -> None:
    query = EncodableQuery(image=image, prompt=RegionPrompt(box=BOXES[1]), features=features)
    asked = model.embed_query(query)
    assert asked.region is not None
    assert_same(asked.region, stored.entities[1])
    assert asked.text is None


def test_the_instruction_is_read_into_region_and_image(
    model: VirtueEmbedder, image: Image, features: VirtueFeatures
) -> None:
    region = RegionPrompt(box=BOXES[0])
    words = "the same at night"
    bare = model.embed_query(EncodableQuery(image=image, prompt=region, features=features))
    told = model.embed_query(EncodableQuery(image=image, prompt=region, text=words, features=features))
    for before, after in ((bare.entity_arm, told.entity_arm), (bare.global_arm, told.global_arm)):
        assert cosines(before, after) < 0.999
    assert told.text is not None
    assert_same(told.text, model.embed_texts([words])[0])
    exact = model.embed_inputs(
        [
            ModelInput(image, templates.query_region_words(region, words), region),
            ModelInput(image, templates.query_image_words(words)),
        ]
    )
    assert_same(told.entity_arm, exact[0])
    assert_same(told.global_arm, exact[1])


def test_a_picture_without_a_region_means_its_whole_frame(
    model: VirtueEmbedder, image: Image, features: VirtueFeatures
) -> None:
    whole = RegionPrompt(box=Box(0, 0, image.width, image.height))
    assert_same(
        model.embed_query(EncodableQuery(image=image, features=features)).entity_arm,
        model.embed_query(EncodableQuery(image=image, prompt=whole, features=features)).entity_arm,
    )


def test_a_query_uses_the_callers_prompt_rather_than_the_segmenters_mask(
    model: VirtueEmbedder, image: Image, features: VirtueFeatures
) -> None:
    point = RegionPrompt(points=(Point(20, 20),))
    mask = Mask.from_box(BOXES[0], image.height, image.width)
    both, of_point, of_mask = (
        model.embed_query(
            EncodableQuery(image=image, prompt=prompt, mask=given, features=features)
        ).entity_arm
        for prompt, given in ((point, mask), (point, None), (None, mask))
    )
    assert_same(both, of_point)
    assert cosines(both, of_mask) < 0.9999


def test_what_the_model_cannot_read_is_refused(model: VirtueEmbedder, image: Image) -> None:
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
    monkeypatch.setattr(embedder, "PICTURES_TOGETHER", 1)
    one, other = (ModelInput(picture(seed, 30, 40), "<|image_pad|> a") for seed in (1, 2))
    words = ModelInput(text="words alone")
    vectors = model.embed_inputs([one, words, other, one, words])
    assert_same(vectors[3], vectors[0])
    for place in (1, 4):
        assert_same(vectors[place], model.embed_texts(["words alone"])[0])
    assert_same(vectors[2], model.embed_inputs([other])[0])
    assert model.embed_inputs([]).shape == (0, HIDDEN)


def test_inputs_without_a_string_and_candidates_are_worded_as_at_indexing(
    model: VirtueEmbedder, image: Image, stored: ImageVectors
) -> None:
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


def test_sams_features_are_handed_out_under_the_agreed_name(
    folder: Path, model: VirtueEmbedder, features: VirtueFeatures
) -> None:
    sam = load_sam2(str(folder / "sam2"), CPU)
    shared = features.part(source_of(sam, "virtue"))
    assert isinstance(shared, SamImageFeatures)
    assert shared.high_res is not None
    assert (shared.height, shared.width) == (80, 100)
    assert features.part(source_of(sam, "sam")) is None
    assert isinstance(features.part(model.backbone.source), VirtueFeatures)


def test_sam_runs_once_an_image_for_the_segmenter_and_the_embedder(
    folder: Path, model: VirtueEmbedder, image: Image
) -> None:
    reference = f"sam2:{folder / 'sam2'},input=virtue,points_per_side=2,pred_iou_thresh=0"
    segmenter = ModelRegistry(runtime=CPU).segmenter(reference)
    assert segmenter.backbone is not None
    calls = record_calls(model)
    [record], failures = Pipeline(model, segmenter).run([EncodedImage("a", encode_png(image))])
    assert failures == []
    assert len([name for name, _, _ in calls if name == "sam"]) == 1
    # The entities are those that the segmenter finds by itself.
    assert record.entities.masks == segmenter.propose([image])[0].masks


def test_the_language_models_passes_stay_within_the_token_budget(
    folder: Path, image: Image, features: VirtueFeatures
) -> None:
    small = Runtime(device="cpu", dtype="fp32", token_budget=1000)
    model = cast(VirtueEmbedder, ModelRegistry(runtime=small).embedder(str(folder)))
    calls = record_calls(model)
    model.embed_images([image, image], [entities(image)] * 2, [features] * 2)
    passes = [rows * length for name, rows, length in calls if name == "language"]
    assert max(passes) <= 1000
    assert len(passes) > 3


def test_rows_that_do_not_fit_the_memory_together_go_in_halves(
    model: VirtueEmbedder, image: Image, features: VirtueFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = entities(image, (Box(10, 10, 20, 20), Box(30, 30, 40, 40), Box(50, 50, 60, 60)))
    [expected] = model.embed_images([image], [found], [features])
    whole = model.network.forward
    passes: list[int] = []

    def scarce(batch: Any) -> torch.Tensor:
        passes.append(len(batch.input_ids))
        if len(batch.input_ids) > 1:
            raise torch.OutOfMemoryError("too many rows")
        return whole(batch)

    monkeypatch.setattr(model.network, "forward", scarce)
    [halved] = model.embed_images([image], [found], [features])
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


def test_half_precision_gives_nearly_the_same_vectors(
    folder: Path, model: VirtueEmbedder, image: Image
) -> None:
    half = Runtime(device="cpu", dtype="bf16")
    coarse = cast(VirtueEmbedder, ModelRegistry(runtime=half).embedder(str(folder)))
    assert coarse.info.fingerprint == model.info.fingerprint
    given = [
        ModelInput(image, None, RegionPrompt(box=BOXES[0])),
        ModelInput(image, None, RegionPrompt(points=(Point(5, 5),))),
        ModelInput(image, None, RegionPrompt(mask=Mask.from_box(BOXES[1], 80, 100))),
        ModelInput(image),
        ModelInput(text="a red thing"),
    ]
    assert (cosines(coarse.embed_inputs(given), model.embed_inputs(given)) > 0.99).all()
