"""SCaR: which of ten captions describes a boxed thing in its scene (VIRTUE, arXiv 2510.00523).

A row holds a picture, a box and ten captions, the first of them true. Published protocol: the query's
one embedding against each caption's, hit@1, "overall" the unweighted mean of the five subsets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.published.benchmark_inputs import (
    BenchmarkInput,
    BoxNumbers,
    CandidateList,
    Retrieval,
)
from regionsearch.evaluation.published.parquet_rows import numbers_of, read_columns, text_of, texts_of
from regionsearch.evaluation.published.wording import (
    STORED_IMAGE,
    Wording,
    tight,
    with_image,
    without_image,
)

COLUMNS = ("qry_text", "qry_image_path", "tgt_text", "bbox")
SUBSETS: Mapping[str, str] = {
    "refcoco_plus": "RefCOCO+",
    "refcocog": "RefCOCOg",
    "visualgenome": "VG",
    "coco_stuff": "COCO-Stuff",
    "ade20k": "ADE20K",
}
"""By a part of the file's name, in small letters."""


@dataclass(frozen=True, slots=True)
class ScarRow:
    """bbox: [x0, y0, x1, y1], each number as Python computes it from those stored (x, y, w, h), since
    the published strings print them."""

    words: str
    image: str
    bbox: tuple[float, ...]
    captions: tuple[str, ...]

    @property
    def box(self) -> BoxNumbers:
        x0, y0, x1, y1 = self.bbox
        return (float(x0), float(y0), float(x1), float(y1))


@dataclass(frozen=True, eq=False)
class ScarSubset:
    name: str
    rows: Sequence[ScarRow]

    def about(self) -> dict[str, object]:
        counts = Counter(len(set(row.captions)) for row in self.rows)
        return {
            "queries": len(self.rows),
            "images": len({row.image for row in self.rows}),
            "chance": float(np.mean([1 / len(set(row.captions)) for row in self.rows])),
            "captions_per_query": {str(count): counts[count] for count in sorted(counts)},
        }


def read_subsets(files: Sequence[Path], limit: int | None = None) -> list[ScarSubset]:
    """One subset a file, `limit` rows of each at most.

    Raises InvalidRequest for a file that is not of this form, and for two of one name.
    """
    subsets = [ScarSubset(subset_name(file), _rows(file, limit)) for file in files]
    names = [subset.name for subset in subsets]
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidRequest(f"two of the files are the subset {name}", field="annotations")
    return subsets


def subset_name(file: Path) -> str:
    """The published name of the subset that a file is called after, else the file's own."""
    stem = file.stem.lower()
    # `refcocog` is no part of `refcoco_plus`, so the first that fits is the only one.
    return next((name for part, name in SUBSETS.items() if part in stem), file.stem)


def _rows(file: Path, limit: int | None) -> list[ScarRow]:
    columns = read_columns(file, COLUMNS, limit=limit)
    rows = []
    for number, (words, image, captions, bbox) in enumerate(
        zip(*(columns[name] for name in COLUMNS), strict=True)
    ):
        x, y, width, height = numbers_of(bbox, 4, "bbox", file, number)
        rows.append(
            ScarRow(
                words=text_of(words, "qry_text", file, number),
                image=text_of(image, "qry_image_path", file, number),
                bbox=(x, y, x + width, y + height),
                captions=tuple(texts_of(captions, "tgt_text", file, number)),
            )
        )
    return rows


def published_query(words: str, bbox: Sequence[float]) -> str:
    """The string that the published program makes of a stored query and a box [x0, y0, x1, y1]."""
    return f"{tight(with_image('', words.replace(STORED_IMAGE, '')))}\nReferring object bbox: {list(bbox)}"


def query_of(row: ScarRow, wording: Wording, *, crop: bool = False) -> BenchmarkInput:
    words: str | None = None
    if wording.style == "image_pad":
        words = published_query(row.words, row.bbox)
    elif wording.style == "instructed":
        words = without_image(row.words) or None
    box = row.box if wording.regions or crop else None
    return BenchmarkInput(words, row.image, box, crop)


def retrieval_of(subset: ScarSubset, wording: Wording, *, crop: bool = False) -> Retrieval:
    """Every caption once, known by its text: a distractor equal to the true caption counts as true."""
    captions = CandidateList()
    choices = [
        np.array([captions.place(text, BenchmarkInput(text)) for text in row.captions], dtype=np.int64)
        for row in subset.rows
    ]
    queries = [query_of(row, wording, crop=crop) for row in subset.rows]
    return Retrieval(subset.name, queries, captions.inputs, choices, [places[:1] for places in choices])
