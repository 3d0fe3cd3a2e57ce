"""`search --explain`: the question and its answer as one picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionsearch.cli.answer_json import parts_in_order
from regionsearch.cli.asking import KeptImage
from regionsearch.cli.question import ExampleOf, Question, read_picture
from regionsearch.demonstration.explained import (
    ExplainedHit,
    ExplainedMatch,
    ExplainedPart,
    ExplainedQuestion,
    Pictured,
)
from regionsearch.demonstration.wording import drawable
from regionsearch.errors import ImageNotFound, InvalidRequest
from regionsearch.regions import Box, Mask, RegionPrompt

if TYPE_CHECKING:
    from regionsearch.images import Image

Kept = Callable[[str], KeptImage]


def explain(path: Path, question: Question, answer: Any, kept: Kept) -> None:
    """Writes the picture as PNG. answer: of the engine or of the client.

    Raises InvalidRequest when the file cannot be written.
    """
    from regionsearch.demonstration.explanation import HITS_SHOWN, draw_explanation

    shown = answer.hits[:HITS_SHOWN]
    hits = [_hit(rank, hit, question, kept) for rank, hit in enumerate(shown, start=1)]
    asked = _question(question, answer, kept)
    picture = draw_explanation(asked, hits, more=len(answer.hits) - len(shown))
    try:
        picture.save(path, "PNG")
    except OSError as error:
        raise InvalidRequest(
            f"cannot write the explanation to {str(path)!r}: {error.strerror}", field="explain"
        ) from error


def check_writable(path: Path) -> None:
    """Raises InvalidRequest before models load and answers are found that could not be shown."""
    if path.suffix.lower() not in ("", ".png"):
        raise InvalidRequest(
            f"the explanation is a PNG: {path.name!r} would be another kind of picture by its name",
            field="explain",
        )
    if path.is_dir():
        raise InvalidRequest(
            f"cannot write the explanation to {str(path)!r}: it is a folder", field="explain"
        )
    if not path.absolute().parent.is_dir():
        raise InvalidRequest(
            f"cannot write the explanation to {str(path)!r}: its folder does not exist", field="explain"
        )


def _question(question: Question, answer: Any, kept: Kept) -> ExplainedQuestion:
    return ExplainedQuestion(
        picture=_asked_with(question, answer, kept),
        text=question.text,
        liked=tuple(_example(one, kept) for one in question.liked),
        disliked=tuple(_example(one, kept) for one in question.disliked),
        facts=tuple(facts_of(question, answer)),
    )


def _asked_with(question: Question, answer: Any, kept: Kept) -> Pictured | None:
    from regionsearch.images import decode_image

    if question.image is not None:
        photo = decode_image(read_picture(question.image), str(question.image))
        prompts = tuple(
            (number, _over_outline(region.prompt)) for number, region in enumerate(answer.regions)
        )
        return Pictured(
            question.image.name,
            photo.width,
            photo.height,
            photo,
            tuple((number, region.mask) for number, region in enumerate(answer.regions)),
            tuple((number, prompt) for number, prompt in prompts if prompt is not None),
        )
    if question.image_id is None:
        return None
    image = kept(question.image_id)
    masks = tuple((number, image.masks[index]) for number, index in enumerate(question.entities))
    return _pictured(image, masks)


def _over_outline(prompt: RegionPrompt | None) -> RegionPrompt | None:
    """What is drawn over the outline of the region that was used: box and points, not mask and polygon,
    which are that outline. None when nothing is left."""
    if prompt is None or (prompt.box is None and not any(point.positive for point in prompt.points)):
        return None
    return replace(prompt, mask=None, polygon=None)


def _pictured(image: KeptImage, outlines: tuple[tuple[int, Mask], ...]) -> Pictured:
    size = image.masks[0]
    return Pictured(image.image_id, size.width, size.height, _photo(image), outlines)


def _photo(image: KeptImage) -> Image | None:
    from regionsearch.images import decode_image

    return None if image.pixels is None else decode_image(image.pixels, image.image_id)


def _example(example: ExampleOf, kept: Kept) -> Pictured:
    image_id, entity = example
    image = kept(image_id)
    return _pictured(image, () if entity is None else ((0, image.masks[entity]),))


def _hit(rank: int, hit: Any, question: Question, kept: Kept) -> ExplainedHit:
    try:
        photo = _photo(kept(hit.image_id))
    except ImageNotFound:
        photo = None  # deleted since it was found: its outlines are still known
    matches = tuple(
        ExplainedMatch(match.region, match.entity.index, match.raw, match.standardised)
        for match in hit.matches
    )
    outlines = tuple((match.region, match.entity.mask) for match in hit.matches)
    wanted = (
        (number, Box(*placement["box"]))
        for number, placement in enumerate(question.placements)
        if "box" in placement
    )
    entity = hit.entity
    label = f" “{entity.label}”" if entity.label else ""
    again = hit.rerank
    return ExplainedHit(
        picture=Pictured(
            hit.image_id,
            hit.width,
            hit.height,
            photo,
            outlines if len(outlines) > 1 else ((0, entity.mask),),
            wanted=tuple(wanted),
            others=tuple(match.entity.mask for match in hit.entities),
        ),
        rank=rank,
        score=hit.score,
        entity=f"entity {entity.index}{label}, {entity.area:.1%} of the image",
        parts=tuple(
            ExplainedPart(
                name,
                part.raw,
                part.standardised,
                part.weight,
                None if part.entity == entity.index else part.entity,
            )
            for name, part in parts_in_order(hit)
            # What counts nothing is left out, unless somebody said that it should.
            if part.weight > 0 or name in question.weights
        ),
        matches=matches,
        entity_arm_rank=hit.entity_arm_rank,
        global_arm_rank=hit.global_arm_rank,
        reread=None
        if again is None
        else ExplainedPart("read again", again.raw, again.standardised, again.weight),
        others=tuple((match.entity.index, match.score) for match in hit.entities),
    )


def facts_of(question: Question, answer: Any) -> list[str]:
    """What the question says beside its words and pictures, and what the answer says of itself."""
    facts = []
    if question.image is not None:
        facts.append(f"asked with the picture {question.image.name}")
    if question.image_id is not None:
        entities = ", ".join(map(str, question.entities))
        which = "entities" if len(question.entities) > 1 else "entity"
        facts.append(
            f"asked with the indexed image {question.image_id}"
            + (f", {which} {entities}" if entities else "")
        )
    for number, region in enumerate(answer.regions, start=1):
        which = f"region {number}" if len(answer.regions) > 1 else "region"
        facts.append(f"{which} used: {region.mask.area:.1%} of the picture")
    prompts = [region.prompt for region in answer.regions if region.prompt is not None]
    if any(not point.positive for prompt in prompts for point in prompt.points):
        facts.append("a white point with a minus: what is meant lies beside it")
    for number, placement in enumerate(question.placements, start=1):
        which = f"match {number}" if len(question.placements) > 1 else "the match"
        if placement:
            facts.append(f"{which}: {_wanted(placement)}")
    if question.where:
        facts.append(f"only where {question.where}")
    facts.extend(f"weight of {name}: {weight:g}" for name, weight in question.weights.items())
    facts.extend(f"{name.replace('_', ' ')}: {value}" for name, value in question.said().items())
    if question.all_entities:
        facts.append("outlined in white: further entities that match")
    if question.rerank is not None:
        facts.append(f"read again: {question.rerank.replace('_', ' ')}")
    if question.per_kind_weights:
        facts.append("weights fitted for this kind of question alone")
    if question.include_self:
        facts.append("its own image and examples may be among the hits")
    if question.page_token:
        facts.append("hits that follow those of another answer: ranks count from its end")
    written = [question.text or "", question.where, question.image_id or ""]
    written.extend(hit.image_id for hit in answer.hits)
    if question.image is not None:
        written.append(question.image.name)
    if any("?" in drawable(one.replace("?", "")) for one in written):
        facts.append(
            "“?” stands for letters that this picture cannot show: the table has them, by the same ranks"
        )
    facts.extend(answer.notes)
    versions = {"background": answer.background, "calibration": answer.calibration}
    facts.append(", ".join(f"{name} {version}" for name, version in versions.items() if version))
    return facts


def _wanted(placement: Mapping[str, Any]) -> str:
    said = []
    for name, value in placement.items():
        words = name.replace("_", " ")
        if name == "strict":
            said.append("strictly")
        elif name == "part":
            said.append(f"{value.replace('_', ' ')} of the frame")
        elif name == "box":
            said.append("within the dashed box")
        else:
            said.append(f"{words} {value}")
    return ", ".join(said)
