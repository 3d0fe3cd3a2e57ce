"""Automatic masks of the sam2 segmenter, on a tiny model with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from asked_of_sam2 import CPU, EVERYTHING, segmenter_of
from pycocotools import mask as coco_tools

from regionsearch.images import Image
from regionsearch.models.runtime import Runtime
from regionsearch.models.sam2 import automatic_masks as automatic
from regionsearch.models.sam2.automatic_masks import Candidates, automatic_masks, candidates, selected
from regionsearch.models.sam2.backbone import Sam2Backbone
from regionsearch.models.sam2.image_features import SamImageFeatures
from regionsearch.models.sam2.loading import LoadedSam2, load_sam2
from regionsearch.models.sam2.prompt_decoder import PromptDecoder
from regionsearch.regions import Mask, mask_iou


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


def test_half_precision_finds_nearly_the_same(folder: Path, photo: Image, everything: Candidates) -> None:
    half = load_sam2(str(folder), Runtime(threads=1, device="cpu", dtype="bf16"))
    (features,) = Sam2Backbone(half, "sam", CPU).features([photo])
    assert features.embedding.dtype == torch.bfloat16
    found = candidates(PromptDecoder(half), features, EVERYTHING)
    assert found.logits.dtype == torch.float32
    np.testing.assert_allclose(found.predicted_iou, everything.predicted_iou, atol=0.02)
    agree = (found.logits > 0) == (everything.logits > 0)
    assert agree.float().mean() > 0.97
