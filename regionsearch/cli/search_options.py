"""The options of `regionsearch search`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regionsearch.cli.arguments import (
    add_runtime_options,
    box_numbers,
    click,
    example,
    finite_number,
    named_weight,
    polygon_rings,
    whole_number,
)
from regionsearch.cli.pointed_parts import BARE, AppendInOrder, of_placement
from regionsearch.regions import FRAME_PARTS


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--collection", required=True, metavar="NAME", help="the collection to search")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", type=Path, metavar="DIR", help="a data directory, read beside any writer")
    where.add_argument("--address", metavar="HOST:PORT", help="a running server")
    parser.set_defaults(pointed=None)
    _add_what(parser.add_argument_group("what is asked"))
    _add_region(parser.add_argument_group("regions of --image"))
    _add_placement(parser.add_argument_group("where the match lies, how large it is, how many there are"))
    _add_filter(parser.add_argument_group("which images and entities"))
    _add_control(parser.add_argument_group("the answer"))
    _add_scoring(parser.add_argument_group("scoring"))
    _add_output(parser.add_argument_group("output"))
    add_runtime_options(parser)


def _add_what(group: argparse._ArgumentGroup) -> None:
    picture = group.add_mutually_exclusive_group()
    picture.add_argument("--image", type=Path, metavar="FILE", help="a picture to search with")
    picture.add_argument("--image-id", metavar="ID", help="an indexed image to search with")
    group.add_argument(
        "--entity",
        dest="pointed",
        action=AppendInOrder,
        part="entity",
        type=whole_number,
        metavar="INDEX",
        help="an entity of --image-id: more like this; repeatable, for entities of the same image",
    )
    group.add_argument("--text", metavar="T", help="an instruction: what to look for, or what matters")
    group.add_argument(
        "--like",
        action="append",
        type=example,
        default=[],
        metavar="ID[#ENTITY]",
        help="an indexed image, or one of its entities, that is like what is wanted; repeatable",
    )
    group.add_argument(
        "--unlike",
        action="append",
        type=example,
        default=[],
        metavar="ID[#ENTITY]",
        help="one that is unlike what is wanted; repeatable",
    )
    group.add_argument(
        "--batch",
        type=Path,
        metavar="FILE",
        help="many questions, a JSON object a line; what a line leaves out is taken from the other options",
    )


def _add_region(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--box",
        dest="pointed",
        action=AppendInOrder,
        part="box",
        type=box_numbers,
        metavar="x0,y0,x1,y1",
        help="a box, pixels of the upright picture; opens a region",
    )
    group.add_argument(
        "--point",
        dest="pointed",
        action=AppendInOrder,
        part="point",
        type=click,
        metavar="x,y[,0|1]",
        help="a point on the thing (1, the default) or beside it (0), of the region opened last; repeatable",
    )
    group.add_argument(
        "--region",
        dest="pointed",
        action=AppendInOrder,
        part=BARE,
        nargs=0,
        help="opens a new region, of which the points (or the outline) behind it say which it is: two clicks "
        "are two things as --point A --region --point B",
    )
    group.add_argument(
        "--mask",
        dest="pointed",
        action=AppendInOrder,
        part="mask",
        type=Path,
        metavar="PNG",
        help="a mask of the size of --image, white (and opaque) where the thing is; opens a region",
    )
    group.add_argument(
        "--polygon",
        dest="pointed",
        action=AppendInOrder,
        part="polygon",
        type=polygon_rings,
        metavar="x0,y0,x1,y1,x2,y2[,...][;...]",
        help="an outline, its corners in turn; further rings behind a semicolon; opens a region",
    )
    group.add_argument(
        "--refine",
        dest="pointed",
        action=AppendInOrder,
        part="refine",
        nargs=0,
        help="the --box before it means the thing within it, not every pixel",
    )


def _add_placement(group: argparse._ArgumentGroup) -> None:
    group.description = (
        "Each belongs to the region (or --entity) opened last before it; with one, or none, they may stand "
        "anywhere."
    )

    def add(option: str, name: str, **others: Any) -> None:
        group.add_argument(option, dest="pointed", action=AppendInOrder, part=of_placement(name), **others)

    add("--place", "part", choices=FRAME_PARTS, help="part of the frame that its middle lies in")
    add(
        "--place-box",
        "box",
        type=box_numbers,
        metavar="x0,y0,x1,y1",
        help="the box that it should have, fractions of the frame's sides, 0 to 1",
    )
    add(
        "--tolerance",
        "tolerance",
        type=finite_number,
        metavar="NUMBER",
        help="how far off halves the agreement, a fraction of the frame's sides (default: 0.1)",
    )
    for bound, meaning in (("min", "least"), ("max", "largest")):
        add(
            f"--{bound}-area",
            f"{bound}_area",
            type=finite_number,
            metavar="SHARE",
            help=f"its {meaning} share of the image, 0 to 1",
        )
    add("--label", "label", metavar="NAME", help="its label, exactly")
    for bound, meaning in (("min", "least"), ("max", "largest")):
        add(
            f"--{bound}-count",
            f"{bound}_count",
            type=whole_number,
            metavar="N",
            help=f"{meaning} number of such entities in the image",
        )
    add(
        "--strict-placement",
        "strict",
        nargs=0,
        help="entities elsewhere or of another size do not match; without it they score less",
    )


def _add_filter(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--where",
        default="",
        metavar="FILTER",
        help="a condition on payload, image and matched entity, such as "
        "'payload.year >= 2020 AND entity.label = \"dog\"' (docs/filters.md)",
    )


def _add_control(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--limit", type=whole_number, metavar="K", help="hits to find (default: 10)")
    group.add_argument("--page-token", metavar="TOKEN", help="the hits that follow the answer that named it")
    group.add_argument(
        "--group-by", choices=("image", "entity"), help="what a hit is (default: an image, once)"
    )
    group.add_argument(
        "--all-entities",
        type=whole_number,
        metavar="N",
        help="list so many further matching entities of each image",
    )
    group.add_argument(
        "--min-score", type=finite_number, metavar="SCORE", help="the least score of a hit, 0 to 1"
    )
    group.add_argument("--include-self", action="store_true", help="let --image-id and examples be answers")
    group.add_argument(
        "--preset",
        choices=("fast", "balanced", "thorough"),
        help="how much work the search may be (default: balanced)",
    )
    group.add_argument(
        "--candidates",
        type=whole_number,
        metavar="N",
        help="images that each arm brings (default: the preset's)",
    )


def _add_scoring(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--weight",
        dest="weights",
        action="append",
        type=named_weight,
        default=[],
        metavar="PART=NUMBER",
        help="the weight of a part of the score: entity, global, text_entity, text_image, placement or "
        "objectness; repeatable",
    )
    group.add_argument(
        "--per-kind-weights", action="store_true", help="the weights fitted for this kind of question alone"
    )
    group.add_argument(
        "--scoring",
        type=Path,
        metavar="FILE",
        help="weights and calibration of `regionsearch fit`; with --data alone",
    )
    group.add_argument(
        "--rerank",
        choices=("pairwise", "pairwise_instructed", "closer"),
        help="read the best again, each with the question, `pairwise_instructed` with its words on both "
        "sides, or look closer at what words alone may mean in each; the collection must keep pixels",
    )
    group.add_argument(
        "--rerank-top", type=whole_number, metavar="N", help="how many are read again (default: 32)"
    )
    group.add_argument(
        "--rerank-weight",
        type=float,
        metavar="NUMBER",
        help="what the reading counts beside the parts of the score (default: 0.5; of closer: 1.5)",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--explain",
        type=Path,
        metavar="PNG",
        help="draw the question and every hit with its outlines and parts into this file",
    )
    group.add_argument("--json", action="store_true", help="print the answer as JSON")
    group.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for a server (default: 60)",
    )
