"""Vectors are those of transformers' own models; regions are read from the patches under them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from patchwork import frame_and_parts, photo
from PIL import Image as Pillow
from tiny_dual_encoder import FAMILIES, PATCHES, SIDE, Family, write_tiny_dual_encoder

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest, NotAccepted
from regionsearch.images import Image
from regionsearch.models.crops import crop_with_context
from regionsearch.models.dual_encoder.tokens import WordTokens
from regionsearch.models.embedder import Embedder, EncodableQuery, ModelInput
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime
from regionsearch.regions import Box, Mask, Point, RegionPrompt

MODELS = {
    "clip": (transformers.CLIPModel, transformers.CLIPImageProcessorPil),
    "siglip": (transformers.SiglipModel, transformers.SiglipImageProcessorPil),
    "siglip2": (transformers.Siglip2Model, transformers.Siglip2ImageProcessorPil),
}
TEXTS = ["a cat", "Two Dogs on a beach, running fast!", "e"]


def published_pixels(folder: Path, family: Family, images: list[Image]) -> dict[str, Any]:
    processor = MODELS[family][1].from_pretrained(folder)
    return dict(processor([Pillow.fromarray(image.pixels) for image in images], return_tensors="pt"))


def published_images(folder: Path, family: Family, images: list[Image]) -> np.ndarray:
    model = MODELS[family][0].from_pretrained(folder).eval()
    with torch.inference_mode():
        return unit(model.get_image_features(**published_pixels(folder, family, images)).pooler_output)


def unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors.double(), dim=-1).numpy()


def query_region(embedder: Embedder, image: Image, box: Box) -> np.ndarray:
    mask = Mask.from_box(box, image.height, image.width)
    region = embedder.embed_query(EncodableQuery(image=image, mask=mask)).region
    assert region is not None
    return region


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("regions", ["mask_pooling", "crop"])
def test_an_images_vector_is_the_published_one(
    folders: dict[Family, Path], family: Family, regions: str
) -> None:
    embedder = ModelRegistry().embedder(f"dual_encoder:{folders[family]},regions={regions}")
    images = [photo(1), photo(2, 60, 60), photo(3, 90, 31), photo(4, 2, 3)]
    expected = published_images(folders[family], family, images)
    found = embedder.embed_images(
        images, [frame_and_parts(image) for image in images[:3]] + [Entities.whole_frame(2, 3)]
    )
    assert np.abs(np.stack([vectors.image for vectors in found]) - expected).max() < 1e-5
    assert all(vectors.image.dtype == np.float32 for vectors in found)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_texts_vector_is_the_published_one(
    folders: dict[Family, Path], embedders: dict[Family, Embedder], family: Family
) -> None:
    # As each family's documentation says texts are to be written and padded.
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folders[family] / "tokenizer.json"))
    model = MODELS[family][0].from_pretrained(folders[family]).eval()
    if family == "clip":
        tokenizer.pad_token = "<|endoftext|>"
        given = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=16, return_tensors="pt")
        ids, mask = given["input_ids"], given["attention_mask"]
    else:
        tokenizer.pad_token = "</s>" if family == "siglip" else "<pad>"
        written = [text.lower() for text in TEXTS]
        if family == "siglip":
            written = [text.replace(",", "").replace("!", "") for text in written]
        given = tokenizer(
            written,
            padding="max_length",
            padding_side="right",
            truncation=True,
            max_length=16,
            return_tensors="pt",
        )
        ids, mask = given["input_ids"], None
    with torch.inference_mode():
        expected = unit(model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output)
    assert ids.shape == (3, 16)
    assert np.abs(embedders[family].embed_texts(TEXTS) - expected).max() < 1e-5


@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_the_whole_frame_as_a_region_is_the_image(embedders: dict[Family, Embedder], family: Family) -> None:
    for image in (photo(1), photo(2, 60, 60), photo(3, 90, 31)):
        ((vectors),) = embedders[family].embed_images([image], [frame_and_parts(image)])
        assert np.abs(vectors.entities[0] - vectors.image).max() < 1e-5
        query = embedders[family].embed_query(EncodableQuery(image=image))
        assert np.abs(query.entity_arm - vectors.image).max() < 1e-5


def test_clips_patches_are_maskclips(folders: dict[Family, Path], embedders: dict[Family, Embedder]) -> None:
    image = photo(5, SIDE, SIDE)
    model = transformers.CLIPModel.from_pretrained(folders["clip"]).eval()
    with torch.inference_mode():
        pixels = published_pixels(folders["clip"], "clip", [image])["pixel_values"]
        hidden = model.vision_model(pixels, output_hidden_states=True).hidden_states[-2]
        layer = model.vision_model.encoder.layers[-1]
        values = layer.self_attn.out_proj(layer.self_attn.v_proj(layer.layer_norm1(hidden)))
        dense = unit(model.visual_projection(model.vision_model.post_layernorm(values))[0, 1:])
    for row, column in ((0, 0), (1, 3), (3, 2)):
        box = Box(8 * column, 8 * row, 8 * column + 8, 8 * row + 8)
        region = query_region(embedders["clip"], image, box)
        assert np.abs(region - dense[4 * row + column]).max() < 1e-5
    two = dense[0] * 0.75 + dense[1] * 0.25
    across = query_region(embedders["clip"], image, Box(2, 0, 10, 8))
    assert np.abs(across - two / np.linalg.norm(two)).max() < 1e-5


@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_a_region_of_whole_patches_is_the_heads_reading_of_these_alone(
    folders: dict[Family, Path], embedders: dict[Family, Embedder], family: Family
) -> None:
    image = photo(6, SIDE, SIDE)
    model = MODELS[family][0].from_pretrained(folders[family]).eval()
    with torch.inference_mode():
        given = published_pixels(folders[family], family, [image])
        grid = [4, 4] if family == "siglip" else given["spatial_shapes"][0].tolist()
        patches = model.get_image_features(**given).last_hidden_state[0, : grid[0] * grid[1]]
        across = patches.shape[0] // grid[0]
        wanted = [0, 1, across, across + 1]
        expected = unit(model.vision_model.head(patches[None, wanted]))[0]
    corner = Box(0, 0, 2 * SIDE / grid[1], 2 * SIDE / grid[0])
    assert np.abs(query_region(embedders[family], image, corner) - expected).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("regions", ["mask_pooling", "crop"])
def test_regions_that_show_different_things_have_different_vectors(
    folders: dict[Family, Path], family: Family, regions: str
) -> None:
    embedder = ModelRegistry().embedder(f"dual_encoder:{folders[family]},regions={regions}")
    image = photo(7)
    ((vectors),) = embedder.embed_images([image], [frame_and_parts(image)])
    cosines = vectors.entities @ vectors.entities.T
    assert cosines[np.triu_indices(3, 1)].max() < 0.999
    assert np.abs(np.linalg.norm(vectors.entities, axis=1) - 1).max() < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("regions", ["mask_pooling", "crop"])
def test_a_vector_does_not_depend_on_its_batch(
    folders: dict[Family, Path], family: Family, regions: str
) -> None:
    reference = f"dual_encoder:{folders[family]},regions={regions}"
    images = [photo(seed, 40 + 5 * seed, 64) for seed in range(5)]
    entities = [frame_and_parts(image) for image in images]
    together = ModelRegistry().embedder(reference).embed_images(images, entities)
    narrow = ModelRegistry(runtime=Runtime(token_budget=20)).embedder(reference)
    for image, found, vectors in zip(images, entities, together, strict=True):
        (alone,) = narrow.embed_images([image], [found])
        assert np.abs(alone.image - vectors.image).max() < 1e-5
        assert np.abs(alone.entities - vectors.entities).max() < 1e-5
    texts = narrow.embed_texts(TEXTS)
    assert np.abs(np.concatenate([narrow.embed_texts([text]) for text in TEXTS]) - texts).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_features_handed_over_give_the_same_vectors_and_cost_no_second_pass(
    embedders: dict[Family, Embedder], family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = embedders[family]
    image = photo(8)
    expected = embedder.embed_images([image], [frame_and_parts(image)])[0]
    assert embedder.backbone is not None
    features = embedder.backbone.features([image])
    assert features[0].part(embedder.backbone.source) is features[0]
    assert features[0].part("another") is None

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(embedder.backbone, "features", refuse)
    given = embedder.embed_images([image], [frame_and_parts(image)], features)[0]
    assert np.abs(given.entities - expected.entities).max() < 1e-6
    query = embedder.embed_query(EncodableQuery(image=image, features=features[0]))
    assert query.image is not None
    assert np.abs(query.image - expected.image).max() < 1e-6


def test_a_region_that_clips_middle_square_leaves_out_has_its_own_vector(
    embedders: dict[Family, Embedder],
) -> None:
    left = np.full((32, 96, 3), 128, dtype=np.uint8)
    left[:, :32] = photo(9, 32, 32).pixels
    # The middle square of both is plain grey; only the outer parts differ.
    other = left.copy()
    other[:, :32] = 255 - left[:, :32]
    first, second = (embedders["clip"].embed_query(EncodableQuery(image=Image(p))) for p in (left, other))
    assert first.image is not None
    assert second.image is not None
    assert np.abs(first.image - second.image).max() < 1e-6
    box = Box(0, 0, 32, 32)
    regions = [query_region(embedders["clip"], Image(pixels), box) for pixels in (left, other)]
    assert regions[0] @ regions[1] < 0.99


@pytest.mark.parametrize("upright", [False, True])
def test_a_very_long_image_is_not_enlarged_beyond_what_is_seen_of_it(
    folders: dict[Family, Path],
    embedders: dict[Family, Embedder],
    monkeypatch: pytest.MonkeyPatch,
    upright: bool,
) -> None:
    def turned(image: Image) -> Image:
        return Image(np.ascontiguousarray(image.pixels.transpose(1, 0, 2))) if upright else image

    long = turned(photo(18, 40, 2001))
    expected = published_images(folders["clip"], "clip", [long])[0]
    resize = Pillow.Image.resize
    made: list[int] = []

    def watched(picture: Pillow.Image, size: tuple[int, int], *args: Any, **named: Any) -> Pillow.Image:
        made.append(size[0] * size[1])
        return resize(picture, size, *args, **named)

    monkeypatch.setattr(Pillow.Image, "resize", watched)
    found, line = (
        embedders["clip"].embed_query(EncodableQuery(image=image)).image
        for image in (long, turned(photo(19, 1, 20_000)))
    )
    assert found is not None
    assert line is not None
    assert found @ expected > 0.999
    assert 0 < max(made) <= 21 * SIDE**2


def test_a_squeezed_frame_is_seen_whole_in_one_pass(folders: dict[Family, Path]) -> None:
    squeezed = ModelRegistry().embedder(f"dual_encoder:{folders['clip']},frame=squeeze")
    image = photo(10, 32, 96)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folders["clip"])
    pixels = processor(
        Pillow.fromarray(image.pixels),
        size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        return_tensors="pt",
    )
    model = transformers.CLIPModel.from_pretrained(folders["clip"]).eval()
    with torch.inference_mode():
        expected = unit(model.get_image_features(**pixels).pooler_output)[0]
    query = squeezed.embed_query(EncodableQuery(image=image))
    assert query.image is not None
    assert np.abs(query.image - expected).max() < 1e-5


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_more_pixels_give_regions_a_finer_grid_and_leave_the_images_vector(
    folders: dict[Family, Path], embedders: dict[Family, Embedder], family: Family
) -> None:
    finer = ModelRegistry().embedder(f"dual_encoder:{folders[family]},pixels={2 * SIDE}")
    image = photo(11)
    assert finer.backbone is not None
    features: Any = finer.backbone.features([image])[0]
    assert features.grid.patches == 64
    expected = embedders[family].embed_images([image], [frame_and_parts(image)])[0]
    found = finer.embed_images([image], [frame_and_parts(image)])[0]
    assert np.abs(found.image - expected.image).max() < 1e-5
    assert finer.info.fingerprint.weights != embedders[family].info.fingerprint.weights


def test_naflex_cuts_at_most_the_patches_asked_for_and_keeps_the_aspect(folders: dict[Family, Path]) -> None:
    for most in (PATCHES, 60):
        embedder = ModelRegistry().embedder(f"dual_encoder:{folders['siglip2']},patches={most}")
        assert embedder.backbone is not None
        features: Any = embedder.backbone.features([photo(12, 30, 90)])[0]
        rows, columns = len(features.grid.rows) - 1, len(features.grid.columns) - 1
        assert most / 2 < rows * columns <= most
        assert columns > 2 * rows


def test_a_crop_is_the_published_vector_of_what_it_shows(folders: dict[Family, Path]) -> None:
    embedder = ModelRegistry().embedder(f"dual_encoder:{folders['siglip']},regions=crop,context=0.5")
    image = photo(13)
    assert embedder.backbone is None
    box = Box(20, 10, 40, 30)
    expected = published_images(folders["siglip"], "siglip", [crop_with_context(image, box, 0.5)])[0]
    assert np.abs(query_region(embedder, image, box) - expected).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_words_beside_pixels_are_added_to_them(embedders: dict[Family, Embedder], family: Family) -> None:
    embedder = embedders[family]
    image = photo(14)
    mask = Mask.from_box(Box(5, 5, 30, 30), 48, 70)
    query = embedder.embed_query(EncodableQuery(image=image, mask=mask, text="a cat"))
    assert query.region is not None
    assert query.image is not None
    assert query.text is not None
    assert np.abs(query.text - embedder.embed_texts(["a cat"])[0]).max() < 1e-6
    for arm, pixels in ((query.entity_arm, query.region), (query.global_arm, query.image)):
        total = pixels + query.text
        assert np.abs(arm - total / np.linalg.norm(total)).max() < 1e-6
    region = RegionPrompt(box=Box(5, 5, 30, 30))
    inputs = [
        ModelInput(image=image, region=region, text="a cat"),
        ModelInput(text="a cat"),
        ModelInput(image),
    ]
    read = embedder.embed_inputs(inputs)
    assert np.abs(read - [query.entity_arm, query.text, query.image]).max() < 1e-5


def test_what_cannot_be_read_is_refused(embedders: dict[Family, Embedder]) -> None:
    embedder = embedders["clip"]
    with pytest.raises(NotAccepted, match="masks, not as points"):
        embedder.embed_query(EncodableQuery(image=photo(1), prompt=RegionPrompt(points=(Point(1, 1),))))
    with pytest.raises(NotAccepted, match="needs the image"):
        embedder.embed_query(EncodableQuery(mask=Mask.full(4, 4), text="a"))
    with pytest.raises(InvalidRequest, match="an image, a text, or both"):
        embedder.embed_query(EncodableQuery())
    with pytest.raises(InvalidRequest, match="70 × 48"):
        embedder.embed_query(EncodableQuery(image=photo(1), mask=Mask.full(4, 4)))
    with pytest.raises(InvalidRequest, match="empty"):
        embedder.embed_texts(["a", " \n"])
    assert embedder.embed_texts([]).shape == (0, embedder.info.dimension)
    assert embedder.embed_images([], []) == []


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_side_that_is_no_multiple_of_the_patch_is_read_as_published(tmp_path: Path, family: Family) -> None:
    folder = write_tiny_dual_encoder(tmp_path / family, family, side=30)
    embedder = ModelRegistry().embedder(str(folder))
    image = photo(16)
    (vectors,) = embedder.embed_images([image], [frame_and_parts(image)])
    assert np.abs(vectors.image - published_images(folder, family, [image])[0]).max() < 1e-5
    features: Any = embedder.backbone.features([image])[0]  # type: ignore[union-attr]
    assert features.grid.patches == 9
    assert np.isclose(features.grid.columns[-1], 70 * 24 / 30)


def test_a_text_longer_than_the_context_keeps_its_end_token(embedders: dict[Family, Embedder]) -> None:
    long = "a very long text about nothing in particular, told at length"
    for embedder in embedders.values():
        cut, longer = embedder.embed_texts([long, long + " and more"])
        assert np.abs(cut - longer).max() < 1e-6
    tokens = WordTokens(Path(embedders["siglip2"].info.name.partition(":")[2]), "siglip2", 16)
    (ids,) = tokens.encode([long])
    assert len(ids) == 16
    assert ids[-1] == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_gives_nearly_the_same_vectors(
    folders: dict[Family, Path], embedders: dict[Family, Embedder], family: Family
) -> None:
    coarse = ModelRegistry(runtime=Runtime(dtype="bf16")).embedder(str(folders[family]))
    image = photo(17)
    (expected,) = embedders[family].embed_images([image], [frame_and_parts(image)])
    (found,) = coarse.embed_images([image], [frame_and_parts(image)])
    assert found.image @ expected.image > 0.995
    assert (found.entities * expected.entities).sum(axis=1).min() > 0.995
    texts = coarse.embed_texts(TEXTS) * embedders[family].embed_texts(TEXTS)
    assert texts.sum(axis=1).min() > 0.995
    assert found.image.dtype == found.entities.dtype == np.float32
    assert coarse.info.fingerprint == embedders[family].info.fingerprint


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_do_not_disturb_each_other(embedders: dict[Family, Embedder], family: Family) -> None:
    def vectors(seed: int) -> np.ndarray:
        image = photo(seed, 40 + 7 * seed, 80)
        (found,) = embedders[family].embed_images([image], [frame_and_parts(image)])
        words = embedders[family].embed_texts([f"thing number {seed}"])
        return np.concatenate([found.image[None], found.entities, words])

    alone = [vectors(seed) for seed in range(4)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(vectors, [seed % 4 for seed in range(16)]))
    for place, found in enumerate(together):
        assert np.abs(found - alone[place % 4]).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_what_does_not_fit_the_memory_is_embedded_in_smaller_batches(
    embedders: dict[Family, Embedder], family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder: Any = embedders[family]
    images = [photo(seed, 40, 40) for seed in range(5)]
    entities = [frame_and_parts(image) for image in images]
    expected = embedder.embed_images(images, entities)
    tower = embedder._vision._tower
    whole = tower.encode
    sizes: list[int] = []

    def small(pixels: torch.Tensor, *args: Any, **named: Any) -> Any:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(pixels, *args, **named)

    monkeypatch.setattr(tower, "encode", small)
    found = embedder.embed_images(images, entities)
    assert sizes == [5, 2, 3, 1, 2]
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one.entities - other.entities).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_are_read_in_batches_and_an_image_is_seen_once(
    embedders: dict[Family, Embedder], family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder: Any = embedders[family]
    images = [photo(seed, 40, 40) for seed in range(6)]
    boxes = (Box(0, 0, 12, 12), Box(20, 20, 40, 30))
    inputs = [ModelInput(image, region=RegionPrompt(box=box)) for image in images for box in boxes]
    inputs += [ModelInput(images[2], "a cat"), ModelInput(text="a dog"), ModelInput(images[3])]
    one_by_one = np.concatenate([embedder.embed_inputs([one]) for one in inputs])
    tower = embedder._vision._tower
    whole = tower.encode
    sizes: list[int] = []

    def counted(pixels: torch.Tensor, *args: Any, **named: Any) -> Any:
        sizes.append(len(pixels))
        return whole(pixels, *args, **named)

    monkeypatch.setattr(tower, "encode", counted)
    assert np.abs(embedder.embed_inputs(inputs) - one_by_one).max() < 1e-5
    assert sizes == [6]
