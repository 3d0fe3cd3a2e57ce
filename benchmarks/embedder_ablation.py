"""What each choice in the compact embedder is worth, on annotated photos.

    python -m benchmarks.embedder_ablation --images DIR --annotations FILE [--json FILE]

Network and segmenter run once; then the vectors are made again with one constant changed at a time. The
measures are those of `regionsearch eval coco`, without its collection and its first phase: every image is
scored, signals are standardised by the photos themselves. Small differences (0.02) are noise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.evaluation.coco_annotations import AnnotatedPhotos, read_folders
from regionsearch.evaluation.coco_questions import Question, class_questions, region_questions
from regionsearch.evaluation.ranking_metrics import average_precision
from regionsearch.images import Image, load_image
from regionsearch.models.compact import embedder as compact
from regionsearch.models.compact import load_embedder, load_segmenter
from regionsearch.models.compact.embedder import CompactEmbedder
from regionsearch.models.compact.network import CompactFeatures
from regionsearch.models.compact.vocabulary import load_vocabulary
from regionsearch.models.embedder import EncodableQuery
from regionsearch.regions import Box, Mask
from regionsearch.search.background import neutral_phrases

Array = NDArray[np.float32]
TEXT_WEIGHTS, REGION_WEIGHTS = (1.0, 0.5), (1.0, 0.5)
"""Of the entity signal and of the image signal, both standardised."""


@dataclass(frozen=True)
class Variant:
    """constants: of the embedder's module, by name. centred: whether the mean class vector is taken off.
    boxes: whether regions count as their boxes."""

    name: str
    constants: tuple[tuple[str, float], ...] = ()
    centred: bool = True
    boxes: bool = False


VARIANTS = (
    Variant("as shipped"),
    Variant("semantic part alone", (("VISUAL_SHARE", 0.0),)),
    Variant("visual share 0.33", (("VISUAL_SHARE", 0.33),)),
    Variant("visual share 0.67", (("VISUAL_SHARE", 0.67),)),
    Variant("no context in regions", (("REGION_CONTEXT", 0.0),)),
    Variant("context 0.5", (("REGION_CONTEXT", 0.5),)),
    Variant("regions of length 9", (("REGION_LENGTH", 9.0),)),
    Variant("regions of length 13", (("REGION_LENGTH", 13.0),)),
    Variant("regions of length 22", (("REGION_LENGTH", 22.0),)),
    Variant("mean class vector kept", centred=False),
    Variant("boxes instead of masks", boxes=True),
)


@dataclass(frozen=True)
class Indexed:
    """Photos with what does not change between variants."""

    photos: AnnotatedPhotos
    images: list[Image]
    features: list[CompactFeatures]
    entities: list[Entities]


@dataclass(frozen=True)
class Signals:
    """Cosines of every question with every photo's best entity and image, (questions, photos)."""

    entity: Array
    image: Array

    def joint(self, background: Signals, weights: tuple[float, float]) -> Array:
        of_entity = (self.entity - background.entity.mean()) / background.entity.std()
        of_image = (self.image - background.image.mean()) / background.image.std()
        joint: Array = weights[0] * of_entity + weights[1] * of_image
        return joint


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure the compact embedder's choices one by one.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="also write the table there")
    options = parser.parse_args(arguments)
    indexed = index(read_folders([options.images], [options.annotations]))
    rows = {}
    for variant in VARIANTS:
        with embedder_of(variant) as embedder:
            rows[variant.name] = measure(embedder, indexed, boxes=variant.boxes)
    columns = list(next(iter(rows.values())))
    print(f"{'':26}" + "".join(f"{column:>14}" for column in columns))
    for name, row in rows.items():
        print(f"{name:26}" + "".join(f"{row[column]:14.3f}" for column in columns))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


def index(photos: AnnotatedPhotos) -> Indexed:
    segmenter, network = load_segmenter(), load_embedder().backbone
    images = [load_image(photo.path) for photo in photos.images]
    features = network.features(images)
    return Indexed(photos, images, features, segmenter.propose(images, features))


@contextlib.contextmanager
def embedder_of(variant: Variant) -> Iterator[CompactEmbedder]:
    with contextlib.ExitStack() as changes:
        for name, value in variant.constants:
            changes.enter_context(mock.patch.object(compact, name, value))
        if not variant.centred:
            vocabulary = load_vocabulary()
            uncentred = replace(vocabulary, centre=np.zeros_like(vocabulary.centre))
            changes.enter_context(mock.patch.object(compact, "load_vocabulary", return_value=uncentred))
        yield CompactEmbedder(load_embedder().backbone)


def measure(embedder: CompactEmbedder, indexed: Indexed, *, boxes: bool) -> dict[str, float]:
    """Mean average precision by question kind and signal."""
    entities = [_as_boxes(found) for found in indexed.entities] if boxes else indexed.entities
    embedded = embedder.embed_images(indexed.images, entities, indexed.features)
    of_images = np.stack([vectors.image for vectors in embedded])
    of_entities = np.concatenate([vectors.entities for vectors in embedded])
    starts = np.cumsum([0, *(len(vectors.entities) for vectors in embedded[:-1])])

    def signals(for_entities: Array, for_images: Array) -> Signals:
        best = np.maximum.reduceat(for_entities @ of_entities.T, starts, axis=1)
        return Signals(best, for_images @ of_images.T)

    ids = [photo.image_id for photo in indexed.photos.images]
    words = class_questions(indexed.photos)
    asked = embedder.embed_texts([question.text or "" for question in words])
    neutral = embedder.embed_texts(neutral_phrases())
    texts, text_background = signals(asked, asked), signals(neutral, neutral)
    regions = region_questions(indexed.photos)
    numbers = [ids.index(question.image_id or "") for question in regions]
    pointed = np.stack(
        [
            _region_vector(embedder, indexed, question, at)
            for question, at in zip(regions, numbers, strict=True)
        ]
    )
    found = signals(pointed, of_images[numbers])
    random_entities = of_entities[
        starts + np.random.default_rng(0).integers(0, np.diff([*starts, len(of_entities)]))
    ]
    others = ~np.eye(len(ids), dtype=np.bool_)
    pairs = signals(random_entities, of_images)
    region_background = Signals(pairs.entity[others], pairs.image[others])
    return {
        "text global": _map(words, texts.image, ids),
        "text entity": _map(words, texts.entity, ids),
        "text joint": _map(words, texts.joint(text_background, TEXT_WEIGHTS), ids),
        "whole image": _map(regions, found.image, ids),
        "region entity": _map(regions, found.entity, ids),
        "region joint": _map(regions, found.joint(region_background, REGION_WEIGHTS), ids),
    }


def _region_vector(embedder: CompactEmbedder, indexed: Indexed, question: Question, at: int) -> Array:
    image = indexed.images[at]
    assert question.box is not None, "region questions have a box"
    mask = Mask.from_box(Box(*question.box).clip(image.height, image.width), image.height, image.width)
    query = EncodableQuery(image=image, mask=mask, features=indexed.features[at])
    return embedder.embed_query(query).entity_arm


def _map(questions: Sequence[Question], scores: Array, ids: Sequence[str]) -> float:
    """Average precision, mean by group, then over groups; a question's own photo is left out."""
    groups: dict[str, list[float]] = defaultdict(list)
    for question, row in zip(questions, scores, strict=True):
        order = [at for at in np.argsort(-row, kind="stable") if ids[at] != question.left_out]
        relevant = np.array([ids[at] in question.relevant for at in order])
        groups[question.group].append(
            float(average_precision(relevant, np.ones((1, len(order)), np.int64))[0])
        )
    return float(np.mean([np.mean(values) for values in groups.values()]))


def _as_boxes(entities: Entities) -> Entities:
    masks = [Mask.from_box(mask.box(), mask.height, mask.width) for mask in entities.masks]
    return Entities.from_masks(masks, entities.objectness)


if __name__ == "__main__":
    main()
