"""Scores that others published, shown beside ours. Percent, as printed there.

SCaR, MMEB: result tables of the VIRTUE project page (github.com/sony/virtue, docs/static/images).
CtrlBench, captions, MMEB tasks: ABC, arXiv 2503.00329v2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Scores = tuple[float, ...]

SCAR_COLUMNS = ("RefCOCO+", "RefCOCOg", "VG", "COCO-Stuff", "ADE20K", "overall")
SCAR: Mapping[str, Scores] = {
    "CLIP": (18.1, 22.4, 23.0, 15.5, 18.9, 19.6),
    "ReCLIP": (17.6, 23.0, 21.3, 12.6, 15.9, 18.1),
    "CLIP + red circle": (17.6, 21.6, 22.3, 15.1, 18.4, 19.0),
    "GME-2B": (5.4, 8.3, 7.5, 5.8, 6.2, 6.6),
    "GME-2B +crop": (6.1, 8.3, 5.8, 6.2, 7.5, 6.8),
    "GME-7B": (6.1, 10.1, 7.4, 7.0, 5.6, 7.2),
    "GME-7B +crop": (6.0, 9.8, 4.4, 7.0, 5.3, 6.5),
    "LamRA-7B": (8.0, 7.9, 5.3, 3.1, 8.9, 6.6),
    "LamRA-7B +crop": (8.2, 7.9, 3.1, 8.9, 5.3, 6.7),
    "VLM2Vec-2B": (24.5, 29.5, 22.3, 19.4, 24.6, 24.1),
    "VLM2Vec-2B +crop": (22.3, 25.8, 17.1, 19.5, 22.5, 21.4),
    "VLM2Vec-2B +SCaR-train": (59.8, 55.5, 34.1, 40.8, 43.2, 46.7),
    "VLM2Vec-7B": (23.2, 29.1, 14.7, 25.0, 22.4, 22.9),
    "VLM2Vec-7B +crop": (17.6, 25.7, 15.2, 13.8, 21.3, 18.7),
    "VLM2Vec-7B +SCaR-train": (40.1, 39.5, 36.3, 31.4, 25.0, 34.5),
    "MMRet-7B": (27.1, 21.8, 15.2, 26.0, 22.6, 22.5),
    "MMRet-7B +crop": (26.0, 20.2, 14.9, 15.0, 19.1, 19.0),
    "MMRet-7B +SCaR-train": (45.8, 43.6, 39.7, 27.5, 31.2, 37.6),
    "UniME-7B": (31.4, 32.8, 19.0, 25.3, 23.0, 26.3),
    "UniME-7B +crop": (25.8, 24.0, 15.2, 24.6, 22.3, 22.4),
    "UniME-7B +SCaR-train": (57.8, 59.3, 44.5, 41.9, 43.6, 49.4),
    "VIRTUE-2B": (28.8, 42.4, 24.4, 29.9, 27.5, 30.4),
    "VIRTUE-2B +crop": (24.4, 36.3, 14.2, 25.8, 23.4, 24.8),
    "VIRTUE-2B +SCaR-train": (64.2, 65.3, 41.4, 54.2, 56.0, 56.2),
    "VIRTUE-7B": (33.0, 35.3, 19.6, 27.1, 23.8, 27.8),
    "VIRTUE-7B +crop": (27.1, 31.5, 17.4, 21.8, 16.4, 22.8),
    "VIRTUE-7B +SCaR-train": (63.2, 66.1, 48.2, 52.2, 54.9, 56.9),
}
"""Hit@1 among ten captions."""
SCAR_QUERIES: Mapping[str, int] = {
    "RefCOCO+": 2_764,
    "RefCOCOg": 1_539,
    "VG": 15_571,
    "COCO-Stuff": 17_903,
    "ADE20K": 9_368,
}
"""That these scores are over, by subset (arXiv 2510.00523)."""

MMEB_COLUMNS = ("CLS", "VQA", "RET", "VG", "IND", "OOD", "all")
MMEB: Mapping[str, Scores] = {
    "CLIP-L/14": (42.8, 9.1, 53.0, 51.8, 37.1, 38.7, 37.8),
    "BLIP2": (27.0, 4.2, 33.9, 47.0, 25.3, 25.1, 25.2),
    "SigLIP so400m": (40.3, 8.4, 31.6, 59.5, 32.3, 38.0, 34.8),
    "OpenCLIP-L/14": (47.8, 10.9, 52.3, 53.3, 39.3, 40.2, 39.7),
    "UniIR CLIP_CF": (44.3, 16.2, 61.8, 65.3, 47.1, 41.7, 44.7),
    "MagicLens CLIP-L": (38.8, 8.3, 35.4, 26.0, 31.0, 23.7, 27.8),
    "GME-2B": (54.4, 29.9, 66.9, 55.5, 49.2, 55.2, 51.9),
    "E5-V-8B": (21.8, 4.9, 11.5, 19.0, 14.9, 11.5, 13.3),
    "GME-7B": (57.7, 34.7, 71.2, 59.3, 53.6, 58.8, 56.0),
    "LamRA-7B": (59.2, 26.5, 70.0, 62.7, 53.0, 55.4, 54.1),
    "CLIP-L/14 (fine-tuned)": (55.2, 19.7, 53.2, 62.2, 47.6, 42.8, 45.4),
    "OpenCLIP-L/14 (fine-tuned)": (56.0, 21.9, 55.4, 64.1, 50.5, 43.1, 47.2),
    "VLM2Vec-2B": (58.7, 49.3, 65.0, 72.9, 64.9, 53.3, 59.7),
    "MMRet-7B": (56.0, 57.4, 69.9, 83.6, 68.0, 59.1, 64.1),
    "VLM2Vec-7B": (62.7, 56.9, 69.4, 82.2, 71.4, 58.1, 65.5),
    "UniME-7B": (60.6, 52.9, 67.9, 85.1, 68.4, 57.9, 66.6),
    "VIRTUE-2B": (64.1, 55.7, 68.4, 78.7, 69.7, 58.8, 64.8),
    "VIRTUE-2B +SCaR": (64.7, 55.1, 68.3, 79.2, 69.8, 58.7, 64.9),
    "VIRTUE-7B": (65.6, 60.4, 71.8, 87.3, 74.4, 61.4, 68.6),
    "VIRTUE-7B +SCaR": (64.4, 58.1, 67.0, 86.4, 72.2, 60.0, 66.8),
}
"""Mean hit@1 of the tasks of a kind."""
MMEB_QUERIES = 1_000
"""Of each task."""

MMEB_TASKS_ABC: Mapping[str, float] = {
    "ImageNet-1K": 71.2,
    "HatefulMemes": 52.1,
    "VOC2007": 81.4,
    "SUN397": 71.8,
    "Place365": 40.7,
    "ImageNet-A": 49.4,
    "ImageNet-R": 86.8,
    "ObjectNet": 67.7,
    "Country211": 18.5,
    "OK-VQA": 48.1,
    "A-OKVQA": 37.3,
    "DocVQA": 28.5,
    "InfographicsVQA": 7.9,
    "ChartQA": 11.7,
    "Visual7W": 25.6,
    "ScienceQA": 26.3,
    "VizWiz": 29.4,
    "GQA": 60.1,
    "TextVQA": 35.4,
}
"""ABC, zero-shot, by task: the only scores by task that are at hand. N24News was left out there."""

CTRLBENCH_COLUMNS = ("R@1", "R@5", "R@10")
CTRLBENCH: Mapping[str, Scores] = {
    "UniIR": (0.9, 2.59, 4.30),
    "MagicLens": (17.0, 37.33, 48.47),
    "VLM2Vec": (2.95, 8.49, 12.36),
    "GME-2B": (20.92, 46.33, 57.27),
    "GME-7B": (24.75, 54.48, 65.27),
    "ABC pretrained": (11.71, 32.48, 42.69),
    "ABC": (50.94, 78.43, 87.47),
}
CTRLBENCH_PICTURES = 1_000
"""Before equal captions were taken out, which left slightly fewer; how is not said."""

CAPTIONS_COLUMNS = ("i2t R@1", "i2t R@5", "i2t R@10", "t2i R@1", "t2i R@5", "t2i R@10")
COCO_CAPTIONS: Mapping[str, tuple[float | None, ...]] = {
    "ABC": (69.2, 87.9, 93.2, 47.6, 72.1, 80.6),
    "EVA-02-CLIP-E+": (68.8, 87.8, 92.8, 51.1, 75.0, 82.7),
    "OpenCLIP-G": (67.3, None, None, 51.4, None, None),
    "CLIP": (58.4, None, None, 37.8, None, None),
}
COCO_CAPTIONS_PICTURES = 5_000
"""Test pictures of the Karpathy split."""
FLICKR30K_CAPTIONS: Mapping[str, tuple[float | None, ...]] = {
    "ABC": (90.7, 99.0, 99.5, 74.6, 92.6, 95.45),
}
FLICKR30K_CAPTIONS_PICTURES = 1_000
"""Test pictures of the Karpathy split."""


def beside(
    columns: Sequence[str],
    rows: Mapping[str, Sequence[float | None]],
    judged: Mapping[str, tuple[int, int]],
    wanted: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Published rows as a report holds them beside its own.

    judged: by name, how many this run is over and how many the published scores are; `fewer` tells
    those that it has not all of. wanted: of the columns, all by default; without any, no row is shown.
    """
    shown = list(columns if wanted is None else wanted)
    named = {model: dict(zip(columns, scores, strict=True)) for model, scores in rows.items()}
    return {
        "unit": "percent",
        "columns": shown,
        "rows": {model: {c: row[c] for c in shown} for model, row in named.items()} if shown else {},
        "fewer": {
            name: {"here": here, "published": there} for name, (here, there) in judged.items() if here < there
        },
    }
