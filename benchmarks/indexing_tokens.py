"""How many tokens a photo costs the models on Qwen2-VL, with the entities that compact finds in it.

    python -m benchmarks.indexing_tokens PHOTOS [--photos N] [--json]

A row is a picture or a crop in the words of its template. Tokens of pictures are exact; those of the
template and of VIRTUE's words for a box are taken as constants, as Qwen's tokenizer gives them about.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from regionsearch.images import decode_image
from regionsearch.models.crops import context_extent
from regionsearch.models.qwen2_vl.pictures import PixelBounds
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.virtue.preprocessing import token_count
from regionsearch.regions import Box

ENTITIES = 32
CONTEXT = 0.25
CROPPED = {
    "abc": (PixelBounds(256, 1024), 21),
    "vlm, GME": (PixelBounds(256, 1280), 21),
    "vlm, VLM2Vec": (PixelBounds(4, 1280, twice=False), 10),
}
"""Bounds of a picture, and tokens of the template beside it."""
VIRTUE_SEGMENT, VIRTUE_WORDS = 256, 51


def row_tokens(height: int, width: int, boxes: list[Box]) -> dict[str, int]:
    """Tokens of one photo and its entities, by model. Crops of equal extent are computed once."""
    found = {
        "virtue": (1 + len(boxes))
        * (VIRTUE_SEGMENT + VIRTUE_WORDS + token_count(height, width, square=False))
    }
    extents = {(0, 0, width, height), *(context_extent(height, width, box, CONTEXT) for box in boxes)}
    for name, (bounds, words) in CROPPED.items():
        found[name] = sum(bounds.plan(y1 - y0, x1 - x0).tokens + words for x0, y0, x1, y1 in extents)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="PHOTOS")
    parser.add_argument(
        "--photos", type=int, default=40, metavar="N", help="the first N by name (default: 40)"
    )
    parser.add_argument("--json", action="store_true")
    parsed = parser.parse_args(arguments)
    paths = sorted(parsed.folder.glob("*.jpg"))[: parsed.photos]
    if not paths:
        parser.error(f"{parsed.folder} holds no .jpg")
    segmenter = ModelRegistry().segmenter("compact")
    totals: dict[str, int] = {}
    for path in paths:
        image = decode_image(path.read_bytes(), path.name)
        (entities,) = segmenter.propose([image], limit=ENTITIES)
        boxes = [Box(*(float(side) for side in box)) for box in entities.boxes]
        for name, tokens in row_tokens(image.height, image.width, boxes).items():
            totals[name] = totals.get(name, 0) + tokens
    means = {name: tokens / len(paths) for name, tokens in totals.items()}
    if parsed.json:
        json.dump({"photos": len(paths), "tokens_per_photo": means}, sys.stdout)
        print()
        return 0
    print(f"{'model':<14}{'tokens a photo':>16}   ({len(paths)} photos, at most {ENTITIES} entities each)")
    for name, mean in means.items():
        print(f"{name:<14}{mean:>16,.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
