"""Measures the signal background that the compact embedder ships with.

    python -m regionsearch.training.measure_background PHOTOS --note "which photos these are"

Indexes a folder of photos as a collection is indexed, measures each signal over random pairs, and
writes `background.json` beside the compact embedder. Annotations play no part. It is used only by
collections too small to measure their own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from regionsearch.collection import DataDirectory
from regionsearch.errors import InvalidRequest
from regionsearch.ingest import EncodedImage, Pipeline, collection_spec, upsert_images
from regionsearch.models.compact import embedder as compact
from regionsearch.models.registry import ModelRegistry
from regionsearch.search.background import UNMEASURED, CollectionBackground, measure_background

SUFFIXES = (".jpg", ".jpeg", ".png")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure the compact embedder's shipped background.")
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--note", required=True, help="which photos these are; kept in the file")
    parser.add_argument("--out", type=Path, default=Path(compact.__file__).with_name(compact.BACKGROUND_FILE))
    options = parser.parse_args(arguments)
    paths = sorted(path for path in options.photos.iterdir() if path.suffix.lower() in SUFFIXES)
    measured = measure_photos(paths, ModelRegistry())
    signals = {
        name: {moment: round(value, 4) for moment, value in asdict(signal).items()}
        for name, signal in measured.signals.items()
        if name not in UNMEASURED  # what is no cosine is not the embedder's to ship
    }
    content = {"measured_on": f"{measured.images} photos: {options.note}", "signals": signals}
    options.out.write_text(json.dumps(content, indent=2) + "\n")
    print(options.out.read_text(), end="")


def measure_photos(paths: Sequence[Path], models: ModelRegistry) -> CollectionBackground:
    """The background of a collection of these photos, by compact with its own entities."""
    embedder, segmenter = models.embedder("compact"), models.segmenter("compact")
    with (
        tempfile.TemporaryDirectory(prefix="regionsearch-background-") as folder,
        DataDirectory(Path(folder) / "data", "write") as directory,
    ):
        spec = collection_spec("background", embedder, segmenter, pixels="none")
        collection = directory.create_collection(spec)
        pipeline = Pipeline(embedder, segmenter, pixels="none")
        images = [EncodedImage(path.name, path.read_bytes()) for path in paths]
        upsert_images(collection, pipeline, images)
        measured = measure_background(collection, embedder)
    if measured is None:
        raise InvalidRequest(f"{len(paths)} photos are too few for statistics; 50 are needed")
    return measured


if __name__ == "__main__":
    main()
