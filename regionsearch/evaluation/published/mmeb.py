"""MMEB: 36 tasks of choosing the right label, answer, caption or picture; hit@1 in each query's own list.

Two published forms are read: `ziyjiang/MMEB_Test_Instruct` (instruction and content in columns of their
own) and `TIGER-Lab/MMEB-eval` (both in one string, with `<|image_1|>` where the picture goes). In both
the first candidate of a list is the true one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regionsearch.errors import InvalidRequest
from regionsearch.evaluation.published.benchmark_inputs import BenchmarkInput, CandidateList, Retrieval
from regionsearch.evaluation.published.mmeb_tasks import TASKS, MmebTask
from regionsearch.evaluation.published.parquet_rows import read_columns, text_of, texts_of
from regionsearch.evaluation.published.wording import (
    IMAGE_PAD,
    STORED_IMAGE,
    Wording,
    joined,
    tight,
    with_image,
    without_image,
)

REQUIRED = ("qry_text", "tgt_text")
OPTIONAL = ("qry_inst", "qry_img_path", "tgt_inst", "tgt_img_path")


@dataclass(frozen=True, slots=True)
class MmebRow:
    """qry_inst: None in the form that holds instruction and content in one string. image: "" for none.
    captions, images: of the candidates, of one length; "" for none."""

    qry_inst: str | None
    qry_text: str
    qry_image: str
    tgt_inst: str
    captions: tuple[str, ...]
    images: tuple[str, ...]

    @property
    def has_captions(self) -> bool:
        """As the published program asks: by the first candidate."""
        return bool(self.captions[0].strip())


@dataclass(frozen=True, eq=False)
class MmebSubset:
    task: MmebTask
    rows: Sequence[MmebRow]

    @property
    def is_instruct_form(self) -> bool:
        return self.rows[0].qry_inst is not None


def task_files(given: Sequence[Path], names: Sequence[str] = ()) -> dict[str, list[Path]]:
    """The files of each task, in the published order of tasks.

    given: Parquet files, called after their task or in a folder called so; or folders that hold
    `TASK/*.parquet` or `TASK.parquet`. names: tasks that are wanted, all by default.
    Raises InvalidRequest for an unknown task, a file of no task, a folder without any, a wanted task
    without files, and a task with files of several folders or one file twice: its queries would count twice.
    """
    for name in names:
        if name not in TASKS:
            raise InvalidRequest(f"MMEB has no task {name!r}; it has {', '.join(TASKS)}", field="task")
    found: dict[str, list[Path]] = {}
    for path in given:
        for name, files in (_of_folder(path) if path.is_dir() else _of_file(path)).items():
            found.setdefault(name, []).extend(files)
    for name, files in found.items():
        if len({file.parent.resolve() for file in files}) > 1 or len(set(files)) < len(files):
            named = ", ".join(map(str, files))
            raise InvalidRequest(f"the task {name!r} is given more than once: {named}", field="annotations")
    for name in names:
        if name not in found:
            raise InvalidRequest(f"there is no file of the task {name!r}", field="annotations")
    return {name: found[name] for name in TASKS if name in found and (not names or name in names)}


def _of_file(path: Path) -> dict[str, list[Path]]:
    for name in (path.stem, path.parent.name):
        if name in TASKS:
            return {name: [path]}
    raise InvalidRequest(
        f"{path} is called after no task, nor is its folder; the tasks are {', '.join(TASKS)}",
        field="annotations",
    )


def _of_folder(folder: Path) -> dict[str, list[Path]]:
    found = {}
    for name in TASKS:
        files = sorted((folder / name).glob("*.parquet"))
        # Hub folders hold other splits beside the test split.
        tests = [file for file in files if file.name.startswith("test")] or files
        single = folder / f"{name}.parquet"
        if tests or single.is_file():
            found[name] = tests or [single]
    if not found:
        if folder.name in TASKS and (files := sorted(folder.glob("*.parquet"))):
            return {folder.name: files}
        raise InvalidRequest(f"{folder} holds no TASK/*.parquet or TASK.parquet of MMEB", field="annotations")
    return found


def folders_of_no_task(given: Sequence[Path]) -> list[Path]:
    """What `task_files` passes over: folders of Parquet files, and such files, within the given folders that
    are called after no task."""
    return [
        below
        for folder in given
        if folder.is_dir() and folder.name not in TASKS
        for below in sorted(folder.iterdir())
        if (below.stem if below.suffix == ".parquet" else below.name) not in TASKS
        and (below.suffix == ".parquet" or next(below.glob("*.parquet"), None) is not None)
    ]


def read_task(task: MmebTask, files: Sequence[Path], limit: int | None = None) -> MmebSubset:
    """Raises InvalidRequest, naming file, row and column, where a file is of neither form."""
    rows: list[MmebRow] = []
    for file in files:
        if limit is None or len(rows) < limit:
            rows += _rows(task, file, None if limit is None else limit - len(rows))
    return MmebSubset(task, rows)


def _rows(task: MmebTask, file: Path, limit: int | None) -> list[MmebRow]:
    columns = read_columns(file, REQUIRED, OPTIONAL, limit)
    rows = []
    for number in range(len(columns["qry_text"])):
        values = {name: column[number] for name, column in columns.items()}
        row = _row(values, file, number)
        asks_with_picture = task.parser != "image_t2i"
        answers_with_picture = task.parser in ("image_t2i", "image_i2i_vg")
        if asks_with_picture and not row.qry_image:
            raise InvalidRequest(f"{file}, row {number}: {task.name} asks with a picture, none is named")
        if answers_with_picture and not all(row.images):
            raise InvalidRequest(f"{file}, row {number}: a candidate of {task.name} names no picture")
        rows.append(row)
    return rows


def _row(values: Mapping[str, Any], file: Path, number: int) -> MmebRow:
    captions = texts_of(values["tgt_text"], "tgt_text", file, number)
    stored = values.get("tgt_img_path") or []
    images = texts_of(stored, "tgt_img_path", file, number) if stored else [""] * len(captions)
    if len(images) != len(captions):
        raise InvalidRequest(
            f"{file}, row {number}: {len(captions)} tgt_text, but {len(images)} tgt_img_path",
            field="annotations",
        )
    instruction = values.get("qry_inst", None)
    return MmebRow(
        qry_inst=text_of(instruction, "qry_inst", file, number) if "qry_inst" in values else None,
        qry_text=text_of(values["qry_text"], "qry_text", file, number),
        qry_image=text_of(values.get("qry_img_path"), "qry_img_path", file, number),
        tgt_inst=text_of(values.get("tgt_inst"), "tgt_inst", file, number),
        captions=tuple(captions),
        images=tuple(images),
    )


def query_of(task: MmebTask, row: MmebRow, wording: Wording) -> BenchmarkInput:
    if task.parser == "image_t2i":
        return BenchmarkInput(_words_query(task, row, wording))
    return BenchmarkInput(_picture_query(task, row, wording), row.qry_image)


def _picture_query(task: MmebTask, row: MmebRow, wording: Wording) -> str | None:
    if wording.style != "image_pad":
        instruction = without_image(row.qry_inst or "") if wording.style == "instructed" else ""
        return joined(instruction, without_image(row.qry_text))
    if row.qry_inst is None:
        return one_string(row.qry_text)
    instruction = row.qry_inst.replace(STORED_IMAGE, "")
    if task.parser in ("image_qa", "image_i2i_vg"):
        instruction = "\n" + instruction.strip()
    return tight(with_image(instruction, row.qry_text)) + "\n"


def _words_query(task: MmebTask, row: MmebRow, wording: Wording) -> str:
    if wording.style != "image_pad":
        return without_image(row.qry_text)
    if row.qry_inst is None:
        return row.qry_text.replace(STORED_IMAGE, IMAGE_PAD)
    words = f"{row.qry_inst.replace(STORED_IMAGE, IMAGE_PAD)} {row.qry_text}\n"
    # The first version's file of VisDial ended in a line's end of its own.
    return words + "\n" if task.name == "VisDial" else words


def candidate_of(task: MmebTask, row: MmebRow, number: int, wording: Wording) -> BenchmarkInput:
    caption, image = row.captions[number], row.images[number]
    if task.parser not in ("image_t2i", "image_i2i_vg"):
        return BenchmarkInput(wording.label.format(caption) if task.parser == "image_cls" else caption)
    if wording.style != "image_pad":
        # Candidates are embedded without an instruction; a caption is part of what they are.
        return BenchmarkInput(joined(without_image(caption)) if row.has_captions else None, image)
    if row.qry_inst is None:
        return BenchmarkInput(one_string(caption), image)
    instruction = row.tgt_inst.replace(STORED_IMAGE, "")
    if row.has_captions:
        return BenchmarkInput(tight(with_image(f"{instruction} {caption}")) + "\n", image)
    words = tight(with_image(instruction))
    return BenchmarkInput(words + "\n" if task.parser == "image_t2i" else words, image)


def one_string(stored: str) -> str:
    """A stored string of the one-string form about a picture, with the token where the picture goes: in
    front when it names no place."""
    return stored.replace(STORED_IMAGE, IMAGE_PAD) if STORED_IMAGE in stored else with_image(stored)


def identity_of(task: MmebTask, row: MmebRow, number: int) -> str:
    """What makes two candidates one: a duplicate of the true one counts as true."""
    if task.parser == "image_t2i":
        return row.images[number]
    if task.parser == "image_i2i_vg":
        return row.images[number] + ":" + row.captions[number].strip('"')
    return row.captions[number]


def retrieval_of(subset: MmebSubset, wording: Wording) -> Retrieval:
    task = subset.task
    candidates = CandidateList()
    choices = [
        np.array(
            [
                candidates.place(identity_of(task, row, number), candidate_of(task, row, number, wording))
                for number in range(len(row.captions))
            ],
            dtype=np.int64,
        )
        for row in subset.rows
    ]
    queries = [query_of(task, row, wording) for row in subset.rows]
    return Retrieval(task.name, queries, candidates.inputs, choices, [places[:1] for places in choices])


MEANS = ("CLS", "VQA", "RET", "VG", "IND", "OOD", "all")


def tasks_of_mean(mean: str) -> list[str]:
    """The tasks that a published mean is over."""
    if mean in ("IND", "OOD"):
        return [task.name for task in TASKS.values() if task.seen == (mean == "IND")]
    return [task.name for task in TASKS.values() if mean in ("all", task.kind)]
