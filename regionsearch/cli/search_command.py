"""`regionsearch search`: one question to a data directory or to a server."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from regionsearch.cli.arguments import (
    AppendRegionPart,
    add_runtime_options,
    box_numbers,
    click,
    group_regions,
    named_weight,
    refuse_runtime_options,
    runtime_from,
    whole_number,
)
from regionsearch.errors import InvalidRegion, InvalidRequest
from regionsearch.regions import Mask, RegionPrompt, validate_within


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "search",
        help="ask a collection with a region, words, or both",
        description="Asks one question and prints the images found, the entity that matched in each, "
        "and what its score is made of. The question is a text, a picture (a file, or an indexed image "
        "by its id), a region of the picture, or several of these together.",
        allow_abbrev=False,
    )
    parser.add_argument("--collection", required=True, metavar="NAME", help="the collection to search")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", type=Path, metavar="DIR", help="a data directory, read beside any writer")
    where.add_argument("--address", metavar="HOST:PORT", help="a running server")
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument("--image", type=Path, metavar="FILE", help="a picture to search with")
    picture.add_argument("--image-id", metavar="ID", help="an indexed image to search with")
    parser.add_argument(
        "--entity", type=whole_number, metavar="INDEX", help="one entity of --image-id: more like this"
    )
    parser.add_argument(
        "--box",
        dest="region",
        action=AppendRegionPart,
        type=box_numbers,
        metavar="x0,y0,x1,y1",
        help="a box in --image, pixels of the upright picture",
    )
    parser.add_argument(
        "--point",
        dest="region",
        action=AppendRegionPart,
        type=click,
        metavar="x,y[,0|1]",
        help="a point on the thing (1, the default) or beside it (0); can be repeated",
    )
    parser.add_argument(
        "--mask",
        dest="region",
        action=AppendRegionPart,
        type=Path,
        metavar="PNG",
        help="a mask of the size of --image, white (and opaque) where the thing is",
    )
    parser.add_argument("--text", metavar="T", help="an instruction: what to look for, or what matters")
    parser.add_argument(
        "--limit", type=whole_number, default=10, metavar="K", help="images to find (default: 10)"
    )
    parser.add_argument(
        "--weight",
        dest="weights",
        action="append",
        type=named_weight,
        default=[],
        metavar="PART=NUMBER",
        help="the weight of a part of the score: entity, global, text_entity or text_image; repeatable",
    )
    parser.add_argument(
        "--rerank",
        choices=("pairwise", "pairwise_instructed"),
        help="read the best again, each with the question, `pairwise_instructed` with its words on both "
        "sides; the collection must keep pixels",
    )
    parser.add_argument(
        "--rerank-top", type=whole_number, metavar="N", help="how many are read again (default: 32)"
    )
    parser.add_argument(
        "--rerank-weight",
        type=float,
        metavar="NUMBER",
        help="what the reading counts beside the parts of the score (default: 0.5)",
    )
    parser.add_argument("--include-self", action="store_true", help="let --image-id be among its own answers")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for a server (default: 60)",
    )
    add_runtime_options(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.set_defaults(run=run, region=None)


def run(arguments: argparse.Namespace) -> int:
    if not 0 < arguments.timeout < math.inf:
        raise InvalidRequest(
            f"--timeout is {arguments.timeout:g}; it must be seconds, above 0", field="timeout"
        )
    if arguments.image is None and arguments.image_id is None and arguments.text is None:
        raise InvalidRequest("the question is empty: give --text, --image or --image-id", field="query")
    for option in ("rerank_top", "rerank_weight"):
        if arguments.rerank is None and getattr(arguments, option) is not None:
            raise InvalidRequest(f"--{option.replace('_', '-')} needs --rerank", field=option)
    if arguments.address is not None:
        refuse_runtime_options(arguments, "needs --data: a server was told where its models compute")
    region = _region(arguments)
    ask = _ask_server if arguments.address is not None else _ask_directory
    answer = answer_to_json(ask(arguments, region))
    if arguments.json:
        json.dump(answer, sys.stdout)
        print()
    else:
        print(_table(answer))
    return 0


def answer_to_json(answer: Any) -> dict[str, Any]:
    """The JSON of design's contract, from an answer of the engine or of the client, which name alike."""
    return {
        "regions": [
            {
                "box": list(region.mask.box().as_tuple()),
                "area": region.mask.area,
                "mask": region.mask.to_coco(),
                "prompts": _prompts(region.prompt),
            }
            for region in answer.regions
        ],
        "hits": [
            {
                "image_id": hit.image_id,
                "score": hit.score,
                "parts": {
                    name: {"raw": part.raw, "standardised": part.standardised, "weight": part.weight}
                    for name, part in hit.parts.items()
                },
                "entity": {
                    "index": hit.entity.index,
                    "box": list(_four(hit.entity.box)),
                    "area": hit.entity.area,
                    "objectness": hit.entity.objectness,
                    "label": hit.entity.label,
                    "label_source": hit.entity.label_source,
                    "mask": hit.entity.mask.to_coco(),
                },
                "rerank": None if hit.rerank is None else _rerank_to_json(hit.rerank),
                "payload": dict(hit.payload),
                "width": hit.width,
                "height": hit.height,
            }
            for hit in answer.hits
        ],
        "background": answer.background,
        "timing_ms": dict(answer.timing_ms),
    }


def _rerank_to_json(found: Any) -> dict[str, Any]:
    return {
        "raw": found.raw,
        "standardised": found.standardised,
        "weight": found.weight,
        "joint_score": found.joint_score,
        "joint_rank": found.joint_rank,
    }


def _region(arguments: argparse.Namespace) -> RegionPrompt | None:
    regions = group_regions(arguments.region or [], _read_mask)
    if len(regions) > 1:
        raise InvalidRequest(f"{len(regions)} regions were given; a query has one", field="regions")
    if regions and arguments.image is None:
        raise InvalidRequest(
            "a region needs --image"
            + ("; of an indexed image, give --entity" if arguments.image_id is not None else ""),
            field="regions",
        )
    return regions[0] if regions else None


def _read_mask(path: Path) -> Mask:
    from regionsearch.images import decode_mask, read_image_file

    pixels = decode_mask(read_image_file(path), str(path))
    if not pixels.any():
        raise InvalidRegion(f"mask {str(path)!r} is black or transparent throughout: it marks nothing")
    return Mask.from_array(pixels)


def _read_picture(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read image {str(path)!r}: {error.strerror}", field="image") from error


def _ask_directory(arguments: argparse.Namespace, region: RegionPrompt | None) -> Any:
    from regionsearch.collection import DataDirectory
    from regionsearch.images import image_size
    from regionsearch.models.registry import ModelRegistry
    from regionsearch.search import Query, QueryRegion, Rerank, SearchEngine

    rerank: Rerank | None = None
    if arguments.rerank is not None:
        said = {"top_n": arguments.rerank_top, "weight": arguments.rerank_weight}
        rerank = Rerank(
            arguments.rerank, **{name: value for name, value in said.items() if value is not None}
        )

    picture = None if arguments.image is None else _read_picture(arguments.image)
    if picture is not None and region is not None:
        # The engine checks it too, once its models have loaded, which may take minutes.
        validate_within(region, *image_size(picture, str(arguments.image)))
    query = Query(
        encoded_image=picture,
        image_name=str(arguments.image),
        image_id=arguments.image_id,
        entities=() if arguments.entity is None else (arguments.entity,),
        regions=() if region is None else (QueryRegion(region),),
        text=arguments.text,
        limit=arguments.limit,
        weights=dict(arguments.weights),
        include_self=arguments.include_self,
        rerank=rerank,
    )
    with DataDirectory(arguments.data, "read") as directory:
        collection = directory.collection(arguments.collection)
        return SearchEngine(ModelRegistry(runtime=runtime_from(arguments))).search(collection, query)


def _ask_server(arguments: argparse.Namespace, region: RegionPrompt | None) -> Any:
    from regionsearch.client import Client

    with Client(arguments.address, timeout=arguments.timeout) as client:
        return client.search(
            arguments.collection,
            image=arguments.image,
            image_id=arguments.image_id,
            entity=arguments.entity,
            points=() if region is None else region.points,
            box=None if region is None else region.box,
            mask=None if region is None else region.mask,
            text=arguments.text,
            limit=arguments.limit,
            weights=dict(arguments.weights),
            include_self=arguments.include_self,
            rerank=arguments.rerank,
            rerank_top=arguments.rerank_top,
            rerank_weight=arguments.rerank_weight,
        )


def _prompts(prompt: RegionPrompt) -> list[dict[str, Any]]:
    """What was pointed at, one entry a part."""
    parts: list[dict[str, Any]] = []
    if prompt.box is not None:
        parts.append({"box": list(prompt.box.as_tuple())})
    if prompt.mask is not None:
        parts.append({"mask": prompt.mask.to_coco()})
    if prompt.polygon is not None:
        parts.append({"polygon": [[list(corner) for corner in ring] for ring in prompt.polygon.rings]})
    parts.extend({"point": [point.x, point.y], "positive": point.positive} for point in prompt.points)
    return parts


def _four(box: Any) -> tuple[float, float, float, float]:
    return box if isinstance(box, tuple) else box.as_tuple()


def _table(answer: dict[str, Any]) -> str:
    lines = []
    for region in answer["regions"]:
        box = ", ".join(f"{value:.0f}" for value in region["box"])
        lines.append(f"region used: box [{box}], {region['area']:.1%} of the picture")
    if not answer["hits"]:
        lines.append("nothing found: the collection holds no other image")
    width = max((len(hit["image_id"]) for hit in answer["hits"]), default=0)
    for rank, hit in enumerate(answer["hits"], start=1):
        entity = hit["entity"]
        box = ", ".join(f"{value:.0f}" for value in entity["box"])
        parts = "  ".join(
            f"{name} {part['standardised']:+.2f} × {part['weight']:g}" for name, part in hit["parts"].items()
        )
        if hit["rerank"] is not None:
            again = hit["rerank"]
            parts += (
                f"  read again {again['standardised']:+.2f} × {again['weight']:g} (was {again['joint_rank']})"
            )
        lines.append(
            f"{rank:>3}  {hit['score']:.3f}  {hit['image_id']:<{width}}  "
            f"entity {entity['index']} [{box}]  {parts}"
        )
    spent = "  ".join(f"{stage} {ms:.1f}" for stage, ms in answer["timing_ms"].items() if ms)
    lines.append(f"milliseconds: {spent}")
    return "\n".join(lines)
