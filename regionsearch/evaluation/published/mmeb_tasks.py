"""The 36 tasks of MMEB (VLM2Vec, arXiv 2410.05160): their kinds, and the parser that words each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Parser = Literal["image_cls", "image_qa", "image_i2t", "image_t2i", "image_i2i_vg"]
Kind = Literal["CLS", "VQA", "RET", "VG"]


@dataclass(frozen=True, slots=True)
class MmebTask:
    """seen: whether MMEB's training set has a part of this task (in distribution)."""

    name: str
    kind: Kind
    parser: Parser
    seen: bool


def _tasks(kind: Kind, parser: Parser, names: str) -> list[MmebTask]:
    """`*` behind a name: out of distribution."""
    return [MmebTask(name.rstrip("*"), kind, parser, not name.endswith("*")) for name in names.split()]


TASKS: Mapping[str, MmebTask] = {
    task.name: task
    for task in (
        *_tasks(
            "CLS",
            "image_cls",
            "ImageNet-1K N24News HatefulMemes VOC2007 SUN397 Place365* ImageNet-A* ImageNet-R* ObjectNet* "
            "Country211*",
        ),
        *_tasks(
            "VQA",
            "image_qa",
            "OK-VQA A-OKVQA DocVQA InfographicsVQA ChartQA Visual7W ScienceQA* VizWiz* GQA* TextVQA*",
        ),
        *_tasks("RET", "image_i2t", "MSCOCO_i2t VisualNews_i2t"),
        *_tasks("RET", "image_t2i", "VisDial MSCOCO_t2i VisualNews_t2i WebQA EDIS* Wiki-SS-NQ*"),
        *_tasks("RET", "image_i2i_vg", "CIRR NIGHTS OVEN* FashionIQ*"),
        *_tasks("VG", "image_i2i_vg", "MSCOCO RefCOCO* RefCOCO-Matching* Visual7W-Pointing*"),
    )
}
"""By name, in the order of the published program."""
