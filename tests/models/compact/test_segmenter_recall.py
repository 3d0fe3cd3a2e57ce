"""What the shipped weights find on annotated photos that they were not fitted on."""

from __future__ import annotations

from pathlib import Path

import pytest

from regionsearch.evaluation.coco_annotations import read_folders
from regionsearch.evaluation.segmentation_evaluation import evaluate_segmentation
from regionsearch.models.compact import load_segmenter


@pytest.mark.slow
def test_most_large_things_of_unseen_photos_are_among_32_entities_in_little_time(data_folder: Path) -> None:
    folder = data_folder / "coco_captions"
    photos = read_folders([folder / "images"], [folder / "instances.json"])
    figures = evaluate_segmentation(photos, load_segmenter(), lambda *_: None)
    assert figures["recall"]["32"] >= 0.60
    assert figures["mask_recall_32"] >= 0.50
    assert figures["entities_per_image"] <= 32
    assert figures["time_ratio"] <= 2.3
