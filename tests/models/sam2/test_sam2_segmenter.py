"""The sam2 segmenter, on a tiny model with random weights in the published files."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from pycocotools import mask as coco_tools
from tiny_sam2 import write_tiny_sam2
from tiny_virtue import write_tiny_virtue
from transformers.models.sam2.processing_sam2 import Sam2Processor

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.images import Image
from regionsearch.ingest.pipeline import EncodedImage, Pipeline
from regionsearch.models.reference import ModelReference
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime
from regionsearch.models.sam2 import automatic_masks as automatic
from regionsearch.models.sam2.automatic_masks import Candidates, automatic_masks, candidates, selected
from regionsearch.models.sam2.backbone import Sam2Backbone
from regionsearch.models.sam2.image_features import SamImageFeatures, source_of
from regionsearch.models.sam2.loading import LoadedSam2, load_sam2
from regionsearch.models.sam2.options import MaskOptions
from regionsearch.models.sam2.pixels import sam_pixels
from regionsearch.models.sam2.prompt_decoder import PromptDecoder
from regionsearch.models.sam2.segmenter import Sam2Segmenter, load_segmenter
from regionsearch.models.segmenter import Segmenter
from regionsearch.regions import Box, Mask, Point, Polygon, RegionPrompt, mask_iou

CPU = Runtime(threads=1, device="cpu", dtype="fp32")
EVERYTHING = MaskOptions(
    points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, min_mask_region_area=0
)
"""Random weights are neither sure nor stable: every mask counts."""
SEED = 8
"""Of weights whose masks depend on the prompt and fill neither nothing nor everything."""
SPOTS = [(20.0, 30.0), (100.5, 60.25), (60.0, 5.0), (5.0, 80.0), (35.0, 45.0), (50.0, 70.0)]
"""Points to try: random weights find something at some of them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sam2(tmp_path_factory.mktemp("sam2"), seed=SEED)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedSam2:
    return load_sam2(str(folder), CPU)


@pytest.fixture(scope="module")
def decoder(loaded: LoadedSam2) -> PromptDecoder:
    return PromptDecoder(loaded)


@pytest.fixture(scope="module")
def photo() -> Image:
    """A drawn scene with a little noise, wider than high."""
    random = np.random.default_rng(5)
    pixels = np.full((90, 120, 3), 200, dtype=np.uint8)
    pixels[10:50, 15:60] = (220, 30, 40)
    pixels[40:85, 70:115] = (20, 60, 200)
    noise = random.integers(-20, 20, pixels.shape)
    return Image(np.clip(pixels + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def features(loaded: LoadedSam2, photo: Image) -> SamImageFeatures:
    return Sam2Backbone(loaded, "sam", CPU).features([photo])[0]


@pytest.fixture(scope="module")
def embeddings(loaded: LoadedSam2, photo: Image) -> list[torch.Tensor]:
    """The photo's features as transformers' model makes them by itself."""
    found: list[torch.Tensor] = loaded.model.get_image_embeddings(sam_pixels([photo], torch.device("cpu")))
    return found


@pytest.fixture(scope="module")
def everything(decoder: PromptDecoder, features: SamImageFeatures) -> Candidates:
    return candidates(decoder, features, EVERYTHING)


def segmenter_of(loaded: LoadedSam2, options: MaskOptions) -> Sam2Segmenter:
    return Sam2Segmenter(loaded, options, CPU, name="sam2")


def test_a_folder_is_read_by_its_name_alone(folder: Path, photo: Image) -> None:
    segmenter = ModelRegistry(runtime=CPU).segmenter(f"{folder},points_per_side=2")
    assert segmenter.info.name == f"sam2:{folder},points_per_side=2"
    (found,) = segmenter.propose([photo])
    # Random weights pass none of the published thresholds.
    assert found.masks == (Mask.full(90, 120),)


def test_pixels_are_those_of_the_published_preprocessing(photo: Image) -> None:
    (pixels,) = sam_pixels([photo], torch.device("cpu"))
    bytes_ = torch.nn.functional.interpolate(
        torch.tensor(photo.pixels).permute(2, 0, 1)[None].float(),
        (1024, 1024),
        mode="bilinear",
        antialias=True,
    )[0]
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None] * 255
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None] * 255
    # Bytes are rounded on the way: at most one level apart from what is not rounded.
    assert ((pixels - (bytes_ - mean) / deviation).abs() * deviation).max() <= 1.001


def test_images_of_a_batch_do_not_change_each_other(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures
) -> None:
    other = Image(np.ascontiguousarray(photo.pixels[::-1, ::2]))
    together = Sam2Backbone(loaded, "sam", CPU).features([other, photo])
    assert [(each.height, each.width) for each in together] == [(90, 60), (90, 120)]
    torch.testing.assert_close(together[1].embedding, features.embedding, rtol=0, atol=1e-4)


def test_prompts_one_by_one_and_in_batches_give_the_same_masks(
    decoder: PromptDecoder, features: SamImageFeatures, everything: Candidates
) -> None:
    single = candidates(decoder, features, replace(EVERYTHING, points_per_batch=1))
    some = candidates(decoder, features, replace(EVERYTHING, points_per_batch=3))
    for other in (single, some):
        assert len(other.logits) == len(everything.logits) > 16
        torch.testing.assert_close(other.logits, everything.logits, rtol=0, atol=1e-4)
        np.testing.assert_allclose(other.predicted_iou, everything.predicted_iou, atol=1e-5)
        assert selected(other, EVERYTHING, 32) == selected(everything, EVERYTHING, 32)


def test_entities_do_not_depend_on_the_batch(decoder: PromptDecoder, features: SamImageFeatures) -> None:
    one, many = (
        automatic_masks(decoder, features, replace(EVERYTHING, points_per_batch=size), 32) for size in (1, 3)
    )
    assert len(one) == len(many) > 1
    assert all(mask_iou(a, b) >= 0.999 for a, b in zip(one.masks, many.masks, strict=True))
    np.testing.assert_allclose(one.objectness, many.objectness, atol=1e-3)


def test_entities_round_trip_through_run_lengths(decoder: PromptDecoder, features: SamImageFeatures) -> None:
    found = automatic_masks(decoder, features, EVERYTHING, 32)
    for mask, box, area in zip(found.masks, found.boxes, found.areas, strict=True):
        coded = mask.to_coco()
        dense = mask.to_array()
        assert coco_tools.encode(np.asfortranarray(dense, dtype=np.uint8)) == {
            **coded,
            "counts": coded["counts"].encode(),
        }
        assert Mask.from_coco(coded) == mask
        rows, columns = np.nonzero(dense)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert area == pytest.approx(dense.mean())


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_more_entities_than_asked_for_and_the_first_stay_first(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures, limit: int
) -> None:
    segmenter = segmenter_of(loaded, EVERYTHING)
    (all_of_them,) = segmenter.propose([photo], [features], limit=1024)
    (some,) = segmenter.propose([photo], [features], limit=limit)
    assert some.masks == all_of_them.masks[:limit]


def test_automatic_masks_are_those_of_the_model_called_directly(
    loaded: LoadedSam2, embeddings: list[torch.Tensor], everything: Candidates
) -> None:
    side = [1024 / 6, 512.0, 1024 * 5 / 6]
    points = torch.tensor([[[[x, y]] for y in side for x in side]])
    with torch.inference_mode():
        direct = loaded.model(image_embeddings=embeddings, input_points=points, multimask_output=True)
    logits = direct.pred_masks[0].flatten(0, 1)
    kept = (logits > 0).flatten(1).any(1)
    torch.testing.assert_close(everything.logits, logits[kept], rtol=0, atol=1e-4)
    np.testing.assert_allclose(everything.predicted_iou, direct.iou_scores[0].flatten()[kept], atol=1e-5)


def test_thresholds_drop_what_is_below_them(
    decoder: PromptDecoder, features: SamImageFeatures, everything: Candidates
) -> None:
    sure = float(np.median(everything.predicted_iou))
    stable = float(np.median(everything.stability))
    passed = candidates(
        decoder, features, replace(EVERYTHING, pred_iou_thresh=sure, stability_score_thresh=stable)
    )
    expected = (everything.predicted_iou > sure) & (everything.stability >= stable)
    assert 0 < expected.sum() < len(expected)
    assert np.array_equal(passed.predicted_iou, everything.predicted_iou[expected])
    assert torch.equal(passed.logits, everything.logits[torch.from_numpy(expected)])


@pytest.mark.parametrize("joined_from", [1, 5, 256])
def test_of_too_many_candidates_the_best_are_kept(
    decoder: PromptDecoder,
    features: SamImageFeatures,
    everything: Candidates,
    monkeypatch: pytest.MonkeyPatch,
    joined_from: int,
) -> None:
    monkeypatch.setattr(automatic, "MOST_CANDIDATES", 7)
    monkeypatch.setattr(automatic, "_JOINED_FROM", joined_from)
    kept = candidates(decoder, features, EVERYTHING)
    best = np.sort(np.argsort(-everything.predicted_iou, kind="stable")[:7])
    np.testing.assert_array_equal(kept.predicted_iou, everything.predicted_iou[best])
    assert torch.equal(kept.logits, everything.logits[torch.from_numpy(best)])


def told_directly(
    loaded: LoadedSam2, embeddings: list[torch.Tensor], multimask: bool, **prompt: torch.Tensor
) -> list[Mask]:
    """transformers' model on the coordinates of its processor, best mask first, enlarged to the photo's
    90 × 120 pixels as `post_process_masks` does (which itself needs torchvision)."""
    if "input_points" in prompt:
        prompt["input_points"] = Sam2Processor._normalize_coordinates(
            None, 1024, prompt["input_points"], (90, 120)
        )
    if "input_boxes" in prompt:
        boxes = Sam2Processor._normalize_coordinates(None, 1024, prompt["input_boxes"], (90, 120), True)
        prompt["input_boxes"] = boxes[None]
    with torch.inference_mode():
        out = loaded.model(image_embeddings=embeddings, multimask_output=multimask, **prompt)
    full = torch.nn.functional.interpolate(out.pred_masks[0], (90, 120), mode="bilinear", align_corners=False)
    best_first = out.iou_scores[0, 0].argsort(descending=True)
    return [Mask.from_array((full[0, place] > 0).numpy()) for place in best_first]


def test_a_point_means_the_best_of_three_masks_that_holds_it(
    loaded: LoadedSam2, embeddings: list[torch.Tensor], photo: Image, features: SamImageFeatures
) -> None:
    segmenter = segmenter_of(loaded, EVERYTHING)
    first_holds = 0
    for x, y in SPOTS:
        masks = told_directly(loaded, embeddings, True, input_points=torch.tensor([[[[x, y]]]]))
        holding = [mask for mask in masks if near(mask, x, y)]
        region = RegionPrompt(points=(Point(x, y),))
        if holding:
            assert mask_iou(segmenter.prompt(photo, region, features), holding[0]) >= 0.999
            first_holds += holding[0] == masks[0]
        else:
            with pytest.raises(InvalidRegion, match="nothing lies at point"):
                segmenter.prompt(photo, region, features)
    assert first_holds > 0


def near(mask: Mask, x: float, y: float) -> bool:
    """Whether the mask comes within a 256th of the picture of a point."""
    reach_x, reach_y = mask.width / 256, mask.height / 256
    return any(
        mask.contains_point(min(max(x + dx, 0), mask.width - 1), min(max(y + dy, 0), mask.height - 1))
        for dx in (-reach_x, 0, reach_x)
        for dy in (-reach_y, 0, reach_y)
    )


def test_several_points_mean_the_single_mask(
    loaded: LoadedSam2, embeddings: list[torch.Tensor], photo: Image, features: SamImageFeatures
) -> None:
    segmenter = segmenter_of(loaded, EVERYTHING)
    compared = 0
    for (x0, y0), (x1, y1) in itertools.combinations(SPOTS, 2):
        positive = (x1 + y1) % 2 == 1  # of some pairs the second point is negative
        (single,) = told_directly(
            loaded,
            embeddings,
            False,
            input_points=torch.tensor([[[[x0, y0], [x1, y1]]]]),
            input_labels=torch.tensor([[[1, int(positive)]]]),
        )
        second_is_right = near(single, x1, y1) if positive else not single.contains_point(x1, y1)
        if near(single, x0, y0) and second_is_right:
            region = RegionPrompt(points=(Point(x0, y0), Point(x1, y1, positive)))
            assert mask_iou(segmenter.prompt(photo, region, features), single) >= 0.999
            compared += 1
    assert compared > 0


def test_a_box_means_itself_unless_refining_is_asked_for(
    loaded: LoadedSam2, embeddings: list[torch.Tensor], photo: Image, features: SamImageFeatures
) -> None:
    box = Box(15.5, 10, 60, 50)
    region = RegionPrompt(box=box)
    with passes_over_images(loaded) as passes:
        assert segmenter_of(loaded, EVERYTHING).prompt(photo, region) == Mask.from_box(box, 90, 120)
    assert passes == []
    (single,) = told_directly(loaded, embeddings, False, input_boxes=torch.tensor([[15.5, 10, 60, 50]]))
    refined = segmenter_of(loaded, replace(EVERYTHING, box="refine")).prompt(photo, region, features)
    assert mask_iou(refined, single) >= 0.999


def test_masks_and_polygons_mean_themselves(loaded: LoadedSam2, photo: Image) -> None:
    segmenter = segmenter_of(loaded, replace(EVERYTHING, box="refine"))
    mask = Mask.from_box(Box(3, 4, 50, 60), 90, 120)
    polygon = Polygon((((10.0, 10.0), (60.0, 12.0), (30.0, 70.0)),))
    with passes_over_images(loaded) as passes:
        assert segmenter.prompt(photo, RegionPrompt(mask=mask)) == mask
        assert segmenter.prompt(photo, RegionPrompt(polygon=polygon)) == Mask.from_polygon(polygon, 90, 120)
    assert passes == []


@pytest.mark.parametrize(
    "outline",
    [
        RegionPrompt(box=Box(10, 10, 80, 80)),
        RegionPrompt(mask=Mask.from_box(Box(10, 10, 80, 80), 90, 120)),
        RegionPrompt(polygon=Polygon((((10.0, 10.0), (80.0, 10.0), (10.0, 80.0)),))),
    ],
    ids=["box", "mask", "polygon"],
)
def test_points_beside_an_outline_stay_within_it(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures, outline: RegionPrompt
) -> None:
    segmenter = segmenter_of(loaded, EVERYTHING)
    allowed = segmenter.prompt(photo, outline)
    found = 0
    for x, y in SPOTS:
        if not allowed.contains_point(x, y):
            continue
        try:
            meant = segmenter.prompt(photo, replace(outline, points=(Point(x, y),)), features)
        except InvalidRegion:
            continue
        assert near(meant, x, y)
        assert not (meant.to_array() & ~allowed.to_array()).any()
        found += 1
    assert found > 0


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (RegionPrompt(points=(Point(300, 3),)), r"\(300, 3\) lies outside the image"),
        (RegionPrompt(points=(Point(100, 80),), box=Box(0, 0, 20, 20)), r"\(100, 80\).*own outline"),
        (RegionPrompt(box=Box(500, 500, 600, 600)), "outside the image"),
    ],
)
def test_where_nothing_lies_is_said(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures, region: RegionPrompt, said: str
) -> None:
    with pytest.raises(InvalidRegion, match=said):
        segmenter_of(loaded, EVERYTHING).prompt(photo, region, features)


def test_a_point_cannot_be_on_a_thing_and_not_on_it(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures
) -> None:
    segmenter = segmenter_of(loaded, EVERYTHING)
    for x, y in SPOTS:
        both = RegionPrompt(points=(Point(x, y), Point(x, y, positive=False)))
        # Where a mask passes close by, it may hold the one and not the other; on a thing it cannot.
        try:
            meant = segmenter.prompt(photo, both, features)
        except InvalidRegion:
            continue
        assert not meant.contains_point(x, y)


def test_a_point_that_no_mask_holds_is_named(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures
) -> None:
    nowhere = replace(EVERYTHING, mask_threshold=32.0)
    with pytest.raises(InvalidRegion, match=r"nothing lies at point \(30, 30\)"):
        segmenter_of(loaded, nowhere).prompt(photo, RegionPrompt(points=(Point(30, 30),)), features)
    (found,) = segmenter_of(loaded, nowhere).propose([photo], [features])
    assert found.masks == (Mask.full(90, 120),)
    assert found.objectness.tolist() == [0.0]


def test_threads_do_not_disturb_each_other(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures
) -> None:
    segmenter = segmenter_of(loaded, replace(EVERYTHING, box="refine"))

    def masks(spot: tuple[float, float]) -> list[Mask]:
        region = RegionPrompt(box=Box(*spot, spot[0] + 40, spot[1] + 30))
        (found,) = segmenter.propose([photo], [features])
        return [segmenter.prompt(photo, region, features), *found.masks]

    spots = [(5.0, 5.0), (60.0, 40.0), (30.0, 20.0), (70.0, 5.0)]
    alone = [masks(spot) for spot in spots]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(masks, spots * 2)) == alone * 2


@contextmanager
def passes_over_images(loaded: LoadedSam2) -> Iterator[list[int]]:
    """How many images each pass of SAM's image encoder reads, in turn."""
    seen: list[int] = []

    def count(_: torch.nn.Module, given: tuple[torch.Tensor, ...], __: object) -> None:
        seen.append(len(given[0]))

    handle = loaded.model.vision_encoder.register_forward_hook(count)
    try:
        yield seen
    finally:
        handle.remove()


def test_an_image_is_encoded_once_for_all_its_prompts(loaded: LoadedSam2, photo: Image) -> None:
    with passes_over_images(loaded) as passes:
        segmenter_of(loaded, replace(EVERYTHING, points_per_batch=3)).propose([photo, photo])
    assert sum(passes) == 2


def test_sam_runs_once_an_image_for_virtue_and_its_segmenter(tmp_path: Path, photo: Image) -> None:
    registry = ModelRegistry(runtime=CPU)
    embedder = registry.embedder(str(write_tiny_virtue(tmp_path / "virtue")))
    sam = tmp_path / "virtue" / "sam2"
    thresholds = "points_per_side=1,pred_iou_thresh=0,stability_score_thresh=0"
    shared = registry.segmenter(f"{sam},input=virtue,{thresholds}")
    apart = registry.segmenter(f"{sam},{thresholds}")
    files = [EncodedImage("photo", png(photo))]

    def encoded(segmenter: Segmenter) -> int:
        with passes_over_images(load_sam2(str(sam), CPU)) as passes:
            records, failures = Pipeline(embedder, segmenter).run(files)
        assert [record.image_id for record in records] == ["photo"]
        assert failures == []
        return sum(passes)

    assert encoded(shared) == 1
    assert encoded(apart) == 2
    # Alone, it reads the same pixels and finds the same entities.
    assert embedder.backbone is not None
    assert shared.backbone is not None
    part = embedder.backbone.features([photo])[0].part(shared.backbone.source)
    assert part is not None
    assert same_entities(shared.propose([photo], [part])[0], shared.propose([photo])[0])


def same_entities(a: Entities, b: Entities) -> bool:
    return len(a) == len(b) and all(mask_iou(x, y) >= 0.999 for x, y in zip(a.masks, b.masks, strict=True))


def png(image: Image) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(image.pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_features_of_other_pixels_are_refused(
    loaded: LoadedSam2, photo: Image, features: SamImageFeatures
) -> None:
    other = segmenter_of(loaded, replace(EVERYTHING, input="virtue"))
    assert other.backbone.source == source_of(loaded, "virtue") == f"sam2:{loaded.weights}:virtue"
    with pytest.raises(InvalidRequest, match="handed to a segmenter"):
        other.propose([photo], [features])
    with pytest.raises(InvalidRequest, match="2 images came with 1"):
        segmenter_of(loaded, EVERYTHING).propose([photo, photo], [features])


def test_half_precision_finds_nearly_the_same(folder: Path, photo: Image, everything: Candidates) -> None:
    half = load_sam2(str(folder), Runtime(threads=1, device="cpu", dtype="bf16"))
    (features,) = Sam2Backbone(half, "sam", CPU).features([photo])
    assert features.embedding.dtype == torch.bfloat16
    found = candidates(PromptDecoder(half), features, EVERYTHING)
    assert found.logits.dtype == torch.float32
    np.testing.assert_allclose(found.predicted_iou, everything.predicted_iou, atol=0.02)
    agree = (found.logits > 0) == (everything.logits > 0)
    assert agree.float().mean() > 0.97


def test_metas_files_are_read_by_their_name_alone(tmp_path: Path) -> None:
    folder = write_tiny_sam2(tmp_path, naming="official")
    (file,) = folder.glob("*.pt")
    registry = ModelRegistry(runtime=CPU)
    weights = {registry.segmenter(str(named)).info.fingerprint.weights for named in (folder, file)}
    assert len(weights) == 1


def test_the_page_names_every_option_with_its_default(repository: Path) -> None:
    page = (repository / "docs" / "sam2.md").read_text(encoding="utf-8")
    for name, default in asdict(MaskOptions()).items():
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        assert f"| `{name}` | {shown} |" in page


def test_options_are_part_of_what_a_segmenter_is_but_speed_is_not(folder: Path) -> None:
    def weights(options: str) -> str:
        return load_segmenter(ModelReference.parse(f"sam2:{folder}{options}"), CPU).info.fingerprint.weights

    plain = weights("")
    assert weights(",points_per_batch=8") == plain
    assert weights(",points_per_side=32") == plain
    changed = [",points_per_side=16", ",input=virtue", ",box=refine", ",pred_iou_thresh=0.88"]
    assert len({plain, *map(weights, changed)}) == 5


@pytest.mark.parametrize(
    "options",
    [
        "points=3",
        "pred_iou_thresh=1.5",
        "points_per_side=0",
        "input=clip",
        "box=maybe",
        "points_per_side=2.5",
    ],
)
def test_options_that_mean_nothing_are_refused(folder: Path, options: str) -> None:
    with pytest.raises(InvalidRequest, match=options.partition("=")[0]):
        load_segmenter(ModelReference.parse(f"sam2:{folder},{options}"), CPU)
