"""The sam2 segmenter: how it is named, what it reads and shares, on a tiny model with random weights."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from asked_of_sam2 import CPU, EVERYTHING, passes_over_images, segmenter_of
from tiny_sam2 import write_tiny_sam2
from tiny_virtue import write_tiny_virtue

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRequest
from regionsearch.images import Image
from regionsearch.ingest.pipeline import EncodedImage, Pipeline
from regionsearch.models.reference import ModelReference
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.sam2.backbone import Sam2Backbone
from regionsearch.models.sam2.image_features import SamImageFeatures, source_of
from regionsearch.models.sam2.loading import LoadedSam2, load_sam2
from regionsearch.models.sam2.options import MaskOptions
from regionsearch.models.sam2.pixels import sam_pixels
from regionsearch.models.sam2.segmenter import load_segmenter
from regionsearch.models.segmenter import Segmenter
from regionsearch.regions import Box, Mask, RegionPrompt, mask_iou


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
