"""The signals that scoring is fitted on: of every question of annotated photos with every photo.

Photos are indexed by the ingest pipeline and questions encoded as the search engine encodes them, each once;
what differs between two sets of weights is then only how the signals are added, which takes no model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regionsearch.collection import Collection, DataDirectory, ImageRecord
from regionsearch.errors import InvalidRequest
from regionsearch.evaluation import coco_questions
from regionsearch.evaluation.coco_annotations import AnnotatedPhotos
from regionsearch.evaluation.coco_questions import Question
from regionsearch.images import load_image
from regionsearch.ingest.pinning import collection_spec
from regionsearch.ingest.pipeline import EncodedImage, Pipeline
from regionsearch.models.embedder import Embedder, EncodableQuery
from regionsearch.models.segmenter import Segmenter
from regionsearch.regions import Box, RegionPrompt
from regionsearch.search.background import measure_background, shipped_background
from regionsearch.search.calibration import QueryKind
from regionsearch.search.joint_scoring import JointQuestion, score_jointly
from regionsearch.search.scoring import ScoringProfile

FITTED_PARTS = ("entity", "global", "text_entity", "text_image")
"""Those that questions about annotated photos have. What is wanted of a match's place is the caller's to
weigh, and objectness counts inside the soft maxima already."""
Progress = Callable[[str, int, int], None]
Vector = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class AskedSignals:
    """One question and n photos. block: its kind of question, as reports name it. group: as `Question`.
    relevant: (n,) bool. values: (n, 4) standardised signals in the order of FITTED_PARTS, 0 where the
    question has no such part. left_out: the question's own photo, which no ranking holds; None."""

    block: str
    group: str
    kind: QueryKind
    text: str
    relevant: NDArray[np.bool_]
    values: NDArray[np.float64]
    left_out: int | None

    def totals(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) weighted sums."""
        totals: NDArray[np.float64] = self.values @ weights
        return totals

    def ranking(self, weights: NDArray[np.float64]) -> NDArray[np.int64]:
        """Photos from best to worst, the own one left out; equal sums in the order of ids."""
        order = np.argsort(-self.totals(weights), kind="stable")
        return order if self.left_out is None else order[order != self.left_out]


@dataclass(frozen=True, eq=False)
class PhotoVectors:
    """Annotated photos with what the models make of them, so that no model is asked again.

    records: by image_id. texts: by text. regions: by image_id and box, the vectors of the region and of
    its image.
    """

    photos: AnnotatedPhotos
    records: dict[str, ImageRecord]
    texts: dict[str, Vector]
    regions: dict[tuple[str, tuple[float, float, float, float]], tuple[Vector, Vector]]


def questions_of(photos: AnnotatedPhotos) -> dict[str, list[Question]]:
    """By block the questions that scoring may be fitted on: none about a class that is held out."""
    held_out = coco_questions.held_out_classes(photos.classes)
    blocks = {
        "text_to_image": coco_questions.class_questions(photos),
        "region_to_image": coco_questions.region_questions(photos),
        "composed": coco_questions.composed_questions(photos),
        "captions": coco_questions.caption_questions(photos),
    }
    return {
        block: [question for question in asked if not held_out & set(question.group.split(" + "))]
        for block, asked in blocks.items()
    }


def encode_photos(
    sets: Sequence[AnnotatedPhotos], embedder: Embedder, segmenter: Segmenter, progress: Progress
) -> PhotoVectors:
    """Everything that the questions of each of the sets need; the first set holds all photos.

    A photo that cannot be decoded, or whose upright size is not the annotated one, is left out.
    """
    asked = [question for photos in sets for block in questions_of(photos).values() for question in block]
    texts = sorted({question.text for question in asked if question.text is not None})
    boxes: dict[str, set[tuple[float, float, float, float]]] = {}
    for question in asked:
        if question.box is not None and question.image_id is not None:
            boxes.setdefault(question.image_id, set()).add(question.box)
    vectors = PhotoVectors(sets[0], {}, dict(zip(texts, embedder.embed_texts(texts), strict=True)), {})
    pipeline = Pipeline(embedder, segmenter, pixels="none")
    for number, photo in enumerate(sets[0].images):
        progress("encoding photos and questions", number, len(sets[0].images))
        records, _ = pipeline.run([EncodedImage(photo.image_id, photo.path.read_bytes())])
        if not records or (records[0].width, records[0].height) != (photo.width, photo.height):
            continue
        vectors.records[photo.image_id] = records[0]
        if photo.image_id not in boxes:
            continue
        image = load_image(photo.path)
        features = None if embedder.backbone is None else embedder.backbone.features([image])[0]
        shared = None
        if features is not None and segmenter.backbone is not None:
            shared = features.part(segmenter.backbone.source)
        for box in sorted(boxes[photo.image_id]):
            prompt = RegionPrompt(box=Box(*box))
            mask = segmenter.prompt(image, prompt, shared)
            found = embedder.embed_query(
                EncodableQuery(image=image, mask=mask, prompt=prompt, features=features)
            )
            if found.region is None or found.image is None:
                raise InvalidRequest(f"{embedder.info.name} has no vectors of regions")
            vectors.regions[photo.image_id, box] = (found.region, found.image)
    return vectors


@contextmanager
def _collection_of(
    records: Sequence[ImageRecord], embedder: Embedder, segmenter: Segmenter
) -> Iterator[Collection]:
    with tempfile.TemporaryDirectory(prefix="regionsearch-fit-") as folder:
        directory = DataDirectory(Path(folder) / "data", "write")
        try:
            collection = directory.create_collection(
                collection_spec("fit", embedder, segmenter, pixels="none")
            )
            collection.upsert(list(records))
            yield collection
        finally:
            directory.close()


def signals_of(
    photos: AnnotatedPhotos,
    vectors: PhotoVectors,
    embedder: Embedder,
    segmenter: Segmenter,
    profile: ScoringProfile,
) -> list[AskedSignals]:
    """Of all questions about these photos, in a collection of these photos alone."""
    known = photos.without(frozenset({image.image_id for image in photos.images} - set(vectors.records)))
    numbers = {image.image_id: number for number, image in enumerate(known.images)}
    asked = []
    records = [vectors.records[image.image_id] for image in known.images]
    with _collection_of(records, embedder, segmenter) as collection:
        background = measure_background(collection, embedder) or shipped_background(embedder)
        stored = [collection.get(image.image_id).number for image in known.images]
        candidates = collection.candidates(stored)
        order = [numbers[image_id] for image_id in candidates.image_ids]
        for block, questions in questions_of(known).items():
            for question in questions:
                scores = score_jointly(candidates, _joint(question, vectors), background.signals, profile)
                values = np.zeros((len(order), len(FITTED_PARTS)))
                for column, name in enumerate(FITTED_PARTS):
                    if name in scores.names:
                        values[order, column] = scores.standardised[:, scores.names.index(name)]
                relevant = np.zeros(len(order), dtype=np.bool_)
                relevant[[numbers[image_id] for image_id in question.relevant]] = True
                asked.append(
                    AskedSignals(
                        block,
                        question.group,
                        _joint(question, vectors).kind,
                        question.text or "",
                        relevant,
                        values,
                        None if question.left_out is None else numbers[question.left_out],
                    )
                )
    return asked


def _joint(question: Question, vectors: PhotoVectors) -> JointQuestion:
    text = None if question.text is None else vectors.texts[question.text]
    if question.box is None or question.image_id is None:
        if text is None:
            raise ValueError("a question without words and without a region")
        return JointQuestion(np.empty((0, len(text)), np.float32), None, text)
    region, image = vectors.regions[question.image_id, question.box]
    return JointQuestion(region[None], image, text)
