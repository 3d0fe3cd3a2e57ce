"""An answer as text for people."""

from __future__ import annotations

from typing import Any

WIDEST_ID = 40
"""Characters that the ids of a table share; a longer one moves its own line alone."""


def table_of(answer: dict[str, Any], *, nothing: str = "nothing found", later_page: bool = False) -> str:
    """From the JSON of an answer: a line for each used region, one or more for each hit. Parts that count
    nothing are left out. nothing: what is said where there is no hit. later_page: the answer goes on from one
    before, which nobody counted."""
    lines = []
    for number, region in enumerate(answer["regions"], start=1):
        which = f"region {number}" if len(answer["regions"]) > 1 else "region"
        lines.append(f"{which} used: box {_box(region['box'])}, {region['area']:.1%} of the picture")
    if not answer["hits"]:
        lines.append(nothing)
    elif later_page:
        lines.append("a later page: its hits are numbered from 1 again")
    lengths = (len(hit["image_id"]) for hit in answer["hits"])
    width = max((length for length in lengths if length <= WIDEST_ID), default=0)
    for rank, hit in enumerate(answer["hits"], start=1):
        lines.extend(_hit_lines(rank, hit, width))
    lines.extend(f"note: {note}" for note in answer["notes"])
    if answer["next_page_token"]:
        lines.append(f"more: --page-token {answer['next_page_token']}")
    spent = "  ".join(f"{stage} {ms:.1f}" for stage, ms in answer["timing_ms"].items() if ms)
    lines.append(f"milliseconds: {spent}")
    return "\n".join(lines)


def _hit_lines(rank: int, hit: dict[str, Any], width: int) -> list[str]:
    parts = "  ".join(
        f"{name} {part['standardised']:+.2f} × {part['weight']:g}"
        for name, part in hit["parts"].items()
        if part["weight"] > 0
    )
    if hit["rerank"] is not None:
        again = hit["rerank"]
        parts += (
            f"  read again {again['standardised']:+.2f} × {again['weight']:g} (was {again['joint_rank']})"
        )
    lines = [
        f"{rank:>3}  {hit['score']:.3f}  {hit['image_id']:<{width}}  {_entity(hit['entity'])}  "
        f"{parts}  {_arms(hit)}".rstrip()
    ]
    if len(hit["matches"]) > 1:
        lines.extend(
            f"{'':12}region {match['region'] + 1}: {_entity(match['entity'])}  {match['standardised']:+.2f}"
            for match in hit["matches"]
        )
    lines.extend(
        f"{'':12}also: {_entity(other['entity'])}  {other['score']:.3f}" for other in hit["entities"]
    )
    return lines


def _entity(entity: dict[str, Any]) -> str:
    label = f" {entity['label']!r}" if entity["label"] is not None else ""
    return f"entity {entity['index']}{label} {_box(entity['box'])}"


def _arms(hit: dict[str, Any]) -> str:
    ranks = {"entity": hit["entity_arm_rank"], "global": hit["global_arm_rank"]}
    known = [f"{arm} {rank}" for arm, rank in ranks.items() if rank is not None]
    return f"(arms: {', '.join(known)})" if known else ""


def _box(box: list[float]) -> str:
    return f"[{', '.join(f'{value:.0f}' for value in box)}]"
