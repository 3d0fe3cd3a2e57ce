"""How well photos are found, judged by their annotations: the figures of `regionsearch eval coco`.

Every kind of question is a block: its questions are asked in several modes, and every mode is judged by
the same measures with intervals from the same draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regionsearch.evaluation import coco_questions
from regionsearch.evaluation.bootstrap import image_weights, interval, mean_of_groups
from regionsearch.evaluation.coco_annotations import AnnotatedPhotos
from regionsearch.evaluation.coco_questions import Question
from regionsearch.evaluation.judged_block import (
    CAPTION_MEASURES,
    Block,
    number,
    ranking_figures,
    ratio,
    shown,
)
from regionsearch.evaluation.photo_index import PhotoIndex, Progress, Ranking
from regionsearch.evaluation.ranking_metrics import first_holds
from regionsearch.regions import box_iou_matrix

WHOLE_FRAME_BOX_AREA = 0.95
"""An entity whose box covers this much of its image has not been localised."""
LOCALISED_IOU = 0.5


def evaluate(index: PhotoIndex, *, captions: bool, progress: Progress) -> dict[str, Any]:
    """The report that `docs/evaluation.md` describes, as JSON-ready values; undefined figures are None."""
    images = len(index.photos.images)
    weights = np.concatenate([np.ones((1, images), dtype=np.int64), image_weights(images)])
    regions = RegionAnswers(index)
    named = coco_questions.class_questions(index.photos)
    held_out = coco_questions.held_out_classes(index.photos.classes)
    of_names, of_held_out = text_to_image(
        index,
        Block(named, index.numbers, weights),
        Block([question for question in named if question.group in held_out], index.numbers, weights),
        progress,
    )
    report: dict[str, Any] = {
        "images": images,
        "entities": index.collection.stats.entities,
        "failed": [{"source": failure.source, "reason": failure.reason} for failure in index.failures],
        "text_to_image": of_names,
        "text_to_image_held_out": of_held_out,
        "region_to_image": region_to_image(
            index,
            Block(coco_questions.region_questions(index.photos), index.numbers, weights),
            regions,
            progress,
        ),
        "composed": composed(
            index,
            Block(coco_questions.composed_questions(index.photos), index.numbers, weights),
            regions,
            progress,
        ),
    }
    if captions:
        report["captions"] = caption_to_image(
            index, Block(coco_questions.caption_questions(index.photos), index.numbers, weights), progress
        )
    return report


class RegionAnswers:
    """Answers by region alone, default weights: asked once, used by two blocks."""

    def __init__(self, index: PhotoIndex) -> None:
        self._index = index
        self._rankings: dict[tuple[str | None, tuple[float, float, float, float] | None], Ranking] = {}

    def joint(self, question: Question) -> Ranking:
        key = (question.image_id, question.box)
        if key not in self._rankings:
            alone = Question(question.group, question.relevant, image_id=question.image_id, box=question.box)
            self._rankings[key] = self._index.ask(alone, "joint")
        return self._rankings[key]


def text_to_image(
    index: PhotoIndex, block: Block, held_out: Block, progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures of all class names, and of those in `held_out`, a part of them that took no part in any
    fitting."""
    rankings = {
        mode: {
            question.group: index.ask(question, mode)
            for question in _counted(block.questions, f"text to image, {mode}", progress)
        }
        for mode in ("entity", "global", "joint")
    }
    whole, part = (
        _text_figures(
            index.photos,
            one,
            {mode: [asked[question.group] for question in one.questions] for mode, asked in rankings.items()},
        )
        for one in (block, held_out)
    )
    return whole, part


def _text_figures(
    photos: AnnotatedPhotos, block: Block, rankings: Mapping[str, Sequence[Ranking]]
) -> dict[str, Any]:
    figures = {mode: ranking_figures(block, asked) for mode, asked in rankings.items()}
    return {
        **_about(block),
        **{mode: shown(values) for mode, values in figures.items()},
        **localisation(photos, block, rankings["joint"]),
        "ece": block.calibration_error(rankings["joint"]),
        "ratio": ratio(figures["joint"], [figures["global"]]),
    }


def region_to_image(
    index: PhotoIndex, block: Block, regions: RegionAnswers, progress: Progress
) -> dict[str, Any]:
    rankings: dict[str, list[Ranking]] = {"whole_image": [], "entity": [], "global": [], "joint": []}
    whole: dict[str, Ranking] = {}
    for question in _counted(block.questions, "region to image", progress):
        source = question.image_id or ""
        if source not in whole:
            whole[source] = index.ask_whole_image(source)
        answers = {
            "whole_image": whole[source],
            "entity": index.ask(question, "entity"),
            "global": index.ask(question, "global"),
            "joint": regions.joint(question),
        }
        for mode, ranking in answers.items():
            rankings[mode].append(ranking.without(block.left_out(question)))
    figures = {mode: ranking_figures(block, asked) for mode, asked in rankings.items()}
    return {
        **_about(block),
        **{mode: shown(values) for mode, values in figures.items()},
        "ece": block.calibration_error(rankings["joint"]),
        "ratio": ratio(figures["joint"], [figures["whole_image"]]),
    }


def composed(index: PhotoIndex, block: Block, regions: RegionAnswers, progress: Progress) -> dict[str, Any]:
    rankings: dict[str, list[Ranking]] = {"region_only": [], "text_only": [], "z_sum": [], "joint": []}
    by_text: dict[str, Ranking] = {}
    for question in _counted(block.questions, "composed", progress):
        text = question.text or ""
        if text not in by_text:
            by_text[text] = index.ask(Question(question.group, question.relevant, text=text), "joint")
        region = regions.joint(question)
        answers = {
            "region_only": region,
            "text_only": by_text[text],
            "z_sum": standardised_sum(region, by_text[text]),
            "joint": index.ask(question, "joint"),
        }
        for mode, ranking in answers.items():
            rankings[mode].append(ranking.without(block.left_out(question)))
    figures = {mode: ranking_figures(block, asked) for mode, asked in rankings.items()}
    return {
        **_about(block),
        **{mode: shown(values) for mode, values in figures.items()},
        "ece": block.calibration_error(rankings["joint"]),
        "ratio": ratio(figures["joint"], [figures["region_only"], figures["text_only"]]),
    }


def caption_to_image(index: PhotoIndex, block: Block, progress: Progress) -> dict[str, Any]:
    rankings = {
        mode: [
            index.ask(question, mode) for question in _counted(block.questions, f"captions, {mode}", progress)
        ]
        for mode in ("global", "joint")
    }
    figures = {
        mode: {name: block.measure_sources(asked, measure) for name, measure in CAPTION_MEASURES.items()}
        for mode, asked in rankings.items()
    }
    return {
        **_about(block),
        **{mode: shown(values) for mode, values in figures.items()},
        "ece": block.calibration_error(rankings["joint"]),
    }


def standardised_sum(a: Ranking, b: Ranking) -> Ranking:
    """Two answers to one question joined by the sum of their z-scores over the collection's photos.

    A photo that one of the two did not return has the least sum that was returned there. The joined
    ranking has no scores: it is no answer of the engine.
    """
    images = len(a.order)
    total = np.zeros(images)
    for ranking in (a, b):
        sums = np.full(images, ranking.sums.min())
        sums[ranking.order[: len(ranking.sums)]] = ranking.sums
        deviation = sums.std()
        if deviation > 0:
            total += (sums - sums.mean()) / deviation
    # Numbers are in the order of ids, so the stable sort breaks ties by id.
    order = np.argsort(-total, kind="stable")
    return Ranking(order, np.empty(0), np.empty(0), np.empty((0, 4)))


def localisation(photos: AnnotatedPhotos, block: Block, rankings: Sequence[Ranking]) -> dict[str, Any]:
    """`localized_p1`: of the queried classes that have a large object, how many have a first hit that is
    relevant and whose entity lies on an instance of the class."""
    large = coco_questions.classes_with_large_object(photos.images)
    kept = [n for n, question in enumerate(block.questions) if question.group in large]
    values = np.empty((len(block.weights), len(kept)))
    for column, n in enumerate(kept):
        question, ranking = block.questions[n], rankings[n]
        relevant = block.relevance(question, ranking)
        found = np.zeros(len(ranking.order), dtype=np.bool_)
        for place in np.flatnonzero(relevant[: len(ranking.boxes)]):
            found[place] = is_localised(
                photos, int(ranking.order[place]), question.group, ranking.boxes[place]
            )
        values[:, column] = first_holds(found, relevant, block.weights[:, ranking.order])
    means = mean_of_groups(values, np.ones_like(values), np.arange(len(kept)))
    return {
        "localized_p1": number(means[0]),
        "localized_p1_ci95": interval(means[1:]),
        "localized_classes": len(kept),
    }


def is_localised(
    photos: AnnotatedPhotos, number: int, class_name: str, entity_box: NDArray[np.float64]
) -> bool:
    """Whether an entity's box (pixels) overlaps an instance of the class, and is not the whole frame."""
    image = photos.images[number]
    x0, y0, x1, y1 = (float(value) for value in entity_box)
    if (x1 - x0) * (y1 - y0) >= WHOLE_FRAME_BOX_AREA * image.width * image.height:
        return False
    boxes = np.array([thing.box for thing in image.of_class(class_name)])
    return bool(box_iou_matrix(entity_box[None], boxes).max(initial=0.0) >= LOCALISED_IOU)


def _about(block: Block) -> dict[str, Any]:
    return {"queries": len(block.questions), "chance": block.chance()}


def _counted(questions: Sequence[Question], what: str, progress: Progress) -> Iterator[Question]:
    for done, question in enumerate(questions):
        progress(what, done, len(questions))
        yield question
    progress(what, len(questions), len(questions))
