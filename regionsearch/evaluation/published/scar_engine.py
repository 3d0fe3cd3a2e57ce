"""Our engine on SCaR: each caption is a query, and the pictures with their boxes are what is indexed.

The pictures go through the ingest pipeline into a collection; the entities of a picture are the boxes
that the benchmark asks about (the segmenter may add its own). A caption is then scored as the second
phase scores it: its vector against the entity of the row's box (`text_entity`) and against the picture
(`text_image`), each standardised by the collection's background, added with the engine's weights.
The engine itself would choose the picture's best entity; here the row says which one is meant.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Candidate, Candidates, Collection, DataDirectory
from regionsearch.entities import Entities
from regionsearch.errors import InvalidImage
from regionsearch.evaluation.progress import progress_bar
from regionsearch.evaluation.published.benchmark_inputs import BoxNumbers
from regionsearch.evaluation.published.embedded_inputs import InputVectors
from regionsearch.evaluation.published.hit_rates import hit_rate
from regionsearch.evaluation.published.image_files import ImageFiles, box_within
from regionsearch.evaluation.published.scar import ScarRow, ScarSubset
from regionsearch.fingerprint import Fingerprint
from regionsearch.images import Image, read_image_file
from regionsearch.ingest.pinning import collection_spec
from regionsearch.ingest.pipeline import EncodedImage, Pipeline
from regionsearch.ingest.upserting import store
from regionsearch.models.embedder import Embedder, QueryVectors
from regionsearch.models.features import Backbone, DenseFeatures
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT, Segmenter, SegmenterInfo
from regionsearch.regions import Mask, RegionPrompt
from regionsearch.search.background import CollectionBackground, shipped_background
from regionsearch.search.engine import SearchEngine
from regionsearch.search.joint_scoring import JointQuestion, score_jointly
from regionsearch.search.scoring import shipped_scoring

MODES: Mapping[str, Mapping[str, float]] = {
    "region_only": {"text_image": 0.0},
    "image_only": {"text_entity": 0.0},
    "joint": {},
}
"""Weights by part name; parts that are not named keep the engine's defaults."""


class AnnotatedRegions:
    """A segmenter whose first entities are boxes that are given; another may add its own.

    `boxes` are those of the one picture that is proposed next. For one thread.
    """

    def __init__(self, others: Segmenter | None = None) -> None:
        self._others = others
        name = "annotated" if others is None else f"annotated+{others.info.fingerprint.name}"
        weights = "" if others is None else others.info.fingerprint.weights
        self.info = SegmenterInfo(Fingerprint(name, weights, dimension=0, preprocessing=1))
        self.boxes: Sequence[BoxNumbers] = ()

    @property
    def backbone(self) -> Backbone | None:
        return None if self._others is None else self._others.backbone

    def propose(
        self,
        images: Sequence[Image],
        features: Sequence[DenseFeatures] | None = None,
        limit: int = DEFAULT_ENTITY_LIMIT,
    ) -> list[Entities]:
        """The boxes in their order, objectness 1, then what the other segmenter proposes; `limit` holds
        for the latter."""
        (image,) = images
        height, width = image.height, image.width
        masks = [Mask.from_box(box_within(box, height, width), height, width) for box in self.boxes]
        objectness = np.ones(len(masks), dtype=np.float32)
        if self._others is not None:
            (found,) = self._others.propose(images, features, limit)
            masks += found.masks
            objectness = np.concatenate([objectness, found.objectness])
        return [Entities.from_masks(masks, objectness)]

    def prompt(
        self,
        image: Image,
        region: RegionPrompt,
        features: DenseFeatures | None = None,
        *,
        refine: bool = False,
    ) -> Mask:
        """Raises AssertionError: nobody asks with a region here."""
        raise AssertionError("annotated regions are not prompted")


@dataclass(frozen=True, eq=False)
class EngineHits:
    """hits: by mode (queries,) 0 to 1. background: version of the statistics. entities: indexed."""

    hits: Mapping[str, NDArray[np.float64]]
    background: str
    entities: int


def engine_hits(
    subset: ScarSubset,
    kept: NDArray[np.int64],
    models: ModelRegistry,
    embedder_name: str,
    segmenter_name: str | None,
    images: ImageFiles,
    captions: InputVectors,
    directory: DataDirectory,
) -> EngineHits:
    """Hit@1 of the rows `kept`, by mode.

    segmenter_name: whose entities stand beside the boxes; None = nobody's. captions: gives the vectors of
    captions. directory: keeps the collection, so that a run that was killed goes on: pictures that are
    stored are not indexed again.
    """
    embedder = models.embedder(embedder_name)
    segmenter = None if segmenter_name is None else models.segmenter(segmenter_name)
    rows = [subset.rows[number] for number in kept]
    boxes = _boxes_by_image(rows)
    collection = _indexed(subset.name, boxes, embedder, segmenter, images, directory)
    background = _background(collection, embedder, models)
    weights = {mode: shipped_scoring().profile(named) for mode, named in MODES.items()}
    texts = list(dict.fromkeys(text for row in rows for text in row.captions))
    row_of = dict(zip(texts, captions.text_rows(texts, f"{subset.name}, captions"), strict=True))
    hits = {mode: np.empty(len(rows)) for mode in MODES}
    for number, row in enumerate(rows):
        candidate = _meant(collection, row, boxes[row.image].index(row.box))
        vectors = captions.vectors(np.array([row_of[text] for text in row.captions], dtype=np.int64))
        correct = np.array([text == row.captions[0] for text in row.captions])
        scored = [
            score_jointly(candidate, _asked(vector), background.signals, weights["joint"])
            for vector in vectors
        ]
        # One entity to choose from: other weights change the sum of the signals and nothing else.
        signals = np.concatenate([one.standardised for one in scored])
        for mode, named in weights.items():
            totals = signals @ np.array([named.weights[name] for name in scored[0].names])
            hits[mode][number] = hit_rate(totals, correct, 1)
    return EngineHits(hits, background.version, collection.stats.entities)


def _boxes_by_image(rows: Sequence[ScarRow]) -> dict[str, list[BoxNumbers]]:
    boxes: dict[str, list[BoxNumbers]] = defaultdict(list)
    for row in rows:
        if row.box not in boxes[row.image]:
            boxes[row.image].append(row.box)
    return boxes


def _indexed(
    name: str,
    boxes: Mapping[str, Sequence[BoxNumbers]],
    embedder: Embedder,
    segmenter: Segmenter | None,
    images: ImageFiles,
    directory: DataDirectory,
) -> Collection:
    regions = AnnotatedRegions(segmenter)
    pipeline = Pipeline(embedder, regions, pixels="none")
    spec = collection_spec(_collection_name(boxes, embedder, regions), embedder, regions, pixels="none")
    if spec.name in directory.collection_names():
        collection = directory.collection(spec.name)
    else:
        collection = directory.create_collection(spec)
    with progress_bar(f"{name}: indexing", len(boxes)) as step:
        for image_id, regions.boxes in boxes.items():
            if not collection.is_stored(image_id, images.digest(image_id)):
                data = read_image_file(images.folder / image_id)
                records, failures = pipeline.run([EncodedImage(image_id, data)])
                failures = [*failures, *store(collection, pipeline, records).failures]
                if failures:
                    raise InvalidImage(failures[0].reason)
            step()
    return collection


def _collection_name(
    boxes: Mapping[str, Sequence[BoxNumbers]], embedder: Embedder, regions: AnnotatedRegions
) -> str:
    """Another for other boxes and other models, so that what a killed run stored is found again and
    never taken for something else."""
    models = [str(embedder.info.fingerprint), str(regions.info.fingerprint)]
    content = json.dumps([models, sorted(boxes.items())])
    return f"scar-{hashlib.sha256(content.encode()).hexdigest()[:24]}"


def _background(collection: Collection, embedder: Embedder, models: ModelRegistry) -> CollectionBackground:
    """The statistics by which the engine standardises, measured by the engine itself."""
    SearchEngine(models).prepare(collection)
    stored = collection.background()
    return shipped_background(embedder) if stored is None else CollectionBackground.from_json(stored)


def _meant(collection: Collection, row: ScarRow, entity: int) -> Candidates:
    """The row's picture with the entity of its box as the only one."""
    record = collection.get(row.image)
    entities = record.entities
    return Candidates.of(
        [
            Candidate(
                number=record.number,
                image_id=row.image,
                vectors=np.ascontiguousarray(record.vectors[[0, 1 + entity]]),
                boxes=entities.boxes[entity : entity + 1],
                areas=entities.areas[entity : entity + 1],
                objectness=entities.objectness[entity : entity + 1],
            )
        ]
    )


def _asked(caption: NDArray[np.float32]) -> JointQuestion:
    return JointQuestion.of(QueryVectors(entity_arm=caption, global_arm=caption, text=caption))
