"""One question in plain values, before it is known whether a directory or a server is asked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regionsearch.cli.pointed_parts import PointedAt, group
from regionsearch.errors import InvalidImage, InvalidRegion, InvalidRequest
from regionsearch.regions import Mask, RegionPrompt, denormalise, validate_within

ExampleOf = tuple[str, int | None]
"""An indexed image's id, and the index of one of its entities or None."""

ENGINE_DEFAULTS = ("limit", "group_by", "min_score", "candidates", "preset", "all_entities")
"""Fields that stay None where nothing was said: the engine and the client have defaults of their own."""


@dataclass(frozen=True, slots=True)
class QuestionRegion:
    """A region of the picture, as search.QueryRegion has it."""

    prompt: RegionPrompt
    normalised: bool = False
    refine: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What is asked; the fields are those of search.Query, None where nothing was said.

    image: the picture's file. placements: by field of search.Placement. where: a filter, "" for none.
    vector: a list of numbers.
    """

    image: Path | None = None
    image_id: str | None = None
    entities: tuple[int, ...] = ()
    regions: tuple[QuestionRegion, ...] = ()
    text: str | None = None
    vector: tuple[float, ...] | None = None
    liked: tuple[ExampleOf, ...] = ()
    disliked: tuple[ExampleOf, ...] = ()
    placements: tuple[Mapping[str, Any], ...] = ()
    where: str = ""
    limit: int | None = None
    page_token: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    per_kind_weights: bool = False
    group_by: str | None = None
    min_score: float | None = None
    candidates: int | None = None
    preset: str | None = None
    all_entities: int | None = None
    include_self: bool = False
    rerank: str | None = None
    rerank_top: int | None = None
    rerank_weight: float | None = None

    def said(self) -> dict[str, Any]:
        """The control fields that were said, by name."""
        named = {name: getattr(self, name) for name in ENGINE_DEFAULTS}
        return {name: value for name, value in named.items() if value is not None}


def question_of(arguments: argparse.Namespace) -> Question:
    """What a command line asks. Reads the files of masks, not the picture.

    Raises InvalidRequest for options that need others, InvalidRegion and InvalidImage.
    """
    return Question(
        image=arguments.image,
        image_id=arguments.image_id,
        text=arguments.text,
        liked=tuple(arguments.like),
        disliked=tuple(arguments.unlike),
        where=arguments.where,
        limit=arguments.limit,
        page_token=arguments.page_token,
        weights=dict(arguments.weights),
        per_kind_weights=arguments.per_kind_weights,
        group_by=arguments.group_by,
        min_score=arguments.min_score,
        candidates=arguments.candidates,
        preset=arguments.preset,
        all_entities=arguments.all_entities,
        include_self=arguments.include_self,
        rerank=arguments.rerank,
        rerank_top=arguments.rerank_top,
        rerank_weight=arguments.rerank_weight,
        **pointed_fields(group(arguments.pointed or [], read_mask)),
    )


def pointed_fields(pointed: list[PointedAt]) -> dict[str, Any]:
    """The fields of a question that say what is pointed at and where it should lie."""
    placements = tuple(one.placement for one in pointed)
    return {
        "regions": tuple(
            QuestionRegion(one.prompt, refine=one.refine) for one in pointed if one.prompt is not None
        ),
        "entities": tuple(one.entity for one in pointed if one.entity is not None),
        "placements": placements if any(placements) else (),
    }


def check_question(question: Question) -> None:
    """Raises InvalidRequest, in the words of the command line, for what can be told without a model."""
    if not (
        question.image is not None
        or question.image_id is not None
        or question.text is not None
        or question.vector is not None
        or question.liked
    ):
        raise InvalidRequest(
            "the question is empty: give --text, --image, --image-id or --like", field="query"
        )
    if question.regions and question.image is None:
        raise InvalidRequest(
            "a region needs --image"
            + ("; of an indexed image, give --entity" if question.image_id is not None else ""),
            field="regions",
        )
    if question.entities and question.image_id is None:
        raise InvalidRequest("--entity needs --image-id", field="entity")
    for option in ("rerank_top", "rerank_weight"):
        if question.rerank is None and getattr(question, option) is not None:
            raise InvalidRequest(f"--{option.replace('_', '-')} needs --rerank", field=option)


def read_mask(path: Path) -> Mask:
    """A mask from its file. Raises InvalidRegion when it marks nothing, InvalidImage when it is none."""
    from regionsearch.images import decode_mask, read_image_file

    if not path.is_file():
        raise InvalidImage(f"mask {str(path)!r} is {'not a regular' if path.exists() else 'no'} file")
    try:
        pixels = decode_mask(read_image_file(path), str(path))
    except InvalidImage as error:
        raise InvalidImage(f"the mask cannot be read: {error.message}", field="mask") from error
    if not pixels.any():
        raise InvalidRegion(f"mask {str(path)!r} is black or transparent throughout: it marks nothing")
    return Mask.from_array(pixels)


def read_picture(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read image {str(path)!r}: {error.strerror}", field="image") from error
    except ValueError as error:  # a null character or half a surrogate pair, which a line of a batch can hold
        raise InvalidRequest(f"no file can be named {str(path)!r}", field="image") from error


def checked_picture(question: Question) -> bytes | None:
    """The bytes of the question's picture, None without one.

    Raises InvalidRequest, and InvalidRegion for a region that lies outside it: the engine checks that too,
    but once its models have loaded, which may take minutes.
    """
    from regionsearch.images import image_size

    if question.image is None:
        return None
    picture = read_picture(question.image)
    # Without regions too: a server does not know the file's name, to say of it that it is no picture.
    height, width = image_size(picture, str(question.image))
    for region in question.regions:
        prompt = denormalise(region.prompt, height, width) if region.normalised else region.prompt
        validate_within(prompt, height, width)
    return picture
