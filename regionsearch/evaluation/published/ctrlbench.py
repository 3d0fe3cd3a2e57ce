"""CtrlBench (ABC, arXiv 2503.00329v2): the same picture under several instructions, each with a caption.

Query: picture and instruction; candidates: all captions of all pictures; R@1, 5, 10. How the public
files look is not known, so the form is ours: a JSON array, or one JSON object a line, of
`{"image": PATH, "prompt_0": TEXT, "desc_0": TEXT, "prompt_1": …}` (the numbers are those of the paper's
keys, from anywhere on), or of `{"image": PATH, "pairs": [{"prompt": TEXT, "desc": TEXT}, …]}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.published.benchmark_inputs import BenchmarkInput, CandidateList, Retrieval
from regionsearch.evaluation.published.wording import Wording, tight, with_image

RANKS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class ControlledPair:
    image: str
    prompt: str
    description: str


def read_pairs(file: Path, limit: int | None = None) -> list[ControlledPair]:
    """limit: pictures at most. Raises InvalidRequest, naming the row, for another form."""
    pairs: list[ControlledPair] = []
    for number, entry in enumerate(_entries(file)[:limit]):
        where = f"{file}, entry {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise InvalidRequest(f"{where}: is no object with the path of an image", field="annotations")
        found = _listed(entry, where) if "pairs" in entry else _numbered(entry, where)
        if not found:
            raise InvalidRequest(f"{where}: has neither `pairs` nor `prompt_0`", field="annotations")
        pairs += [ControlledPair(entry["image"], prompt, description) for prompt, description in found]
    if not pairs:
        raise InvalidRequest(f"{file} holds no pair", field="annotations")
    return pairs


def _entries(file: Path) -> list[Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"cannot read {file}: {error.strerror}", field="annotations") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file} is not UTF-8: {error.reason}", field="annotations") from error
    try:
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise InvalidRequest(
            f"{file} is neither a JSON array nor JSON lines: {error}", field="annotations"
        ) from error


def _listed(entry: dict[str, Any], where: str) -> list[tuple[str, str]]:
    pairs = entry["pairs"]
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
        raise InvalidRequest(f"{where}: `pairs` is no list of objects", field="annotations")
    return [(_text(pair, "prompt", where), _text(pair, "desc", where)) for pair in pairs]


def _numbered(entry: dict[str, Any], where: str) -> list[tuple[str, str]]:
    numbers = sorted(int(key[7:]) for key in entry if re.fullmatch(r"prompt_\d+", key))
    return [
        (_text(entry, f"prompt_{number}", where), _text(entry, f"desc_{number}", where)) for number in numbers
    ]


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(f"{where}: {key!r} is no text", field="annotations")
    return value


def query_of(pair: ControlledPair, wording: Wording) -> BenchmarkInput:
    """The instruction is what is asked, so every style holds it; with the picture's token it is worded as
    MMEB words a question."""
    if wording.style == "image_pad":
        return BenchmarkInput(tight(with_image("\n" + pair.prompt.strip())) + "\n", pair.image)
    return BenchmarkInput(pair.prompt, pair.image)


def retrieval_of(pairs: Sequence[ControlledPair], wording: Wording) -> Retrieval:
    """Equal captions are one candidate."""
    captions = CandidateList()
    correct = [
        np.array([captions.place(pair.description, BenchmarkInput(pair.description))], dtype=np.int64)
        for pair in pairs
    ]
    queries = [query_of(pair, wording) for pair in pairs]
    return Retrieval("CtrlBench", queries, captions.inputs, None, correct)
