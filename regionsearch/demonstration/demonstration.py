"""The demo from end to end: index, serve, ask, draw."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from regionsearch.client import Client
from regionsearch.demonstration.answers import Answer
from regionsearch.demonstration.collection_reader import CollectionReader
from regionsearch.demonstration.contact_sheet import draw_contact_sheet
from regionsearch.demonstration.questions import ADDED_WORDS, NEUTRAL_WORDS, more_like_this, plan_questions
from regionsearch.demonstration.sample_photos import SAMPLE_ADDED_WORDS, SAMPLE_WORDS, copy_sample_photos
from regionsearch.demonstration.server_process import ServerProcess
from regionsearch.demonstration.web_page import contact_sheet_page
from regionsearch.demonstration.wording import SheetFacts, verdict
from regionsearch.errors import InvalidRequest

COLLECTION = "demo"
HITS = 4
"""Hits shown for each question."""
PHOTOS_CONSIDERED = 24
"""Photos that questions are made from; a large collection is sampled evenly."""
SIMILAR_TRIED = 6
"""Things that `more like this` is asked about; the one with the best answer is shown."""
FAILURES_TOLD = 5
"""Photos that could not be read and are named one by one."""
PNG_NAME, HTML_NAME = "contact-sheet.png", "contact-sheet.html"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a demo is about.

    folder: photos to index; None: those of scikit-image. output: where the sheet goes.
    data: a data directory to keep; None: a temporary one. embedder, segmenter: of a new collection;
    None: the default ones. words: what to ask in words alone; empty: a choice that fits the photos.
    max_megapixels: of one photo, as for `index`.
    """

    folder: Path | None
    output: Path
    data: Path | None = None
    embedder: str | None = None
    segmenter: str | None = None
    words: tuple[str, ...] = ()
    max_megapixels: float = 64.0


class IndexingError(Exception):
    """`regionsearch index` refused or failed, and has said why on stderr. status: its exit code."""

    def __init__(self, status: int) -> None:
        super().__init__(f"indexing ended with exit code {status}")
        self.status = status


def run_demonstration(settings: Settings, tell: Tell) -> list[Answer]:
    """Writes the contact sheet to `settings.output` and returns the answers on it.

    `tell` is called with lines for the user. Raises InvalidRequest for a folder or an output that cannot
    be used, IndexingError, Unavailable when the server does not start, and what the client raises.
    """
    if settings.folder is not None and not settings.folder.is_dir():
        problem = "is not a folder" if settings.folder.exists() else "does not exist"
        raise InvalidRequest(f"{str(settings.folder)!r} {problem}", field="folder")
    _prepare_output(settings)
    with tempfile.TemporaryDirectory(prefix="regionsearch-demo-") as scratch:
        folder = settings.folder or copy_sample_photos(Path(scratch) / "photos")
        data = settings.data or Path(scratch) / "data"
        tell(f"indexing {_source(settings)}")
        index_photos(settings, folder, data, tell)
        tell("starting a server")
        with ServerProcess(data) as server, Client(server.address) as client:
            reader = CollectionReader(client, COLLECTION, folder, settings.max_megapixels)
            collection = client.get_collection(COLLECTION)
            facts = SheetFacts(
                _source(settings), collection.images, collection.entities, collection.embedder.name
            )
            sample = settings.folder is None
            photos = reader.photos(PHOTOS_CONSIDERED)
            questions = plan_questions(
                photos,
                settings.words or (SAMPLE_WORDS if sample else NEUTRAL_WORDS),
                SAMPLE_ADDED_WORDS if sample else ADDED_WORDS,
            )
            tell(f"asking at {server.address}")
            answers = [reader.ask(question, HITS) for question in questions]
            similar = [reader.ask(question, HITS) for question in more_like_this(photos, SIMILAR_TRIED)]
            answers += sorted(similar, key=_first_score, reverse=True)[:1]
    started = time.perf_counter()
    _write(settings.output, answers, facts)
    for answer in answers:
        tell(_summary(answer))
    tell(f"drawn in {time.perf_counter() - started:.1f} s:")
    for name in (PNG_NAME, HTML_NAME):
        tell(f"  {settings.output / name}")
    return answers


def _source(settings: Settings) -> str:
    return "scikit-image" if settings.folder is None else str(settings.folder)


def _prepare_output(settings: Settings) -> None:
    """Makes the folder and writes to it, before minutes are spent on what could not be kept."""
    output = settings.output
    if settings.folder is not None and output.resolve().is_relative_to(settings.folder.resolve()):
        raise InvalidRequest(
            f"the output {str(output)!r} is inside the folder of photos, where the next run would index "
            "it; name another one with --output",
            field="output",
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise InvalidRequest(f"cannot write to {str(output)!r}: {error.strerror}", field="output") from error


def index_photos(settings: Settings, folder: Path, data: Path, tell: Tell) -> None:
    """Runs `regionsearch index`, as a user would; its progress goes to our stderr.

    Raises IndexingError, and InvalidRequest when it could read none of the photos.
    """
    command = [sys.executable, "-m", "regionsearch", "index", str(folder)]
    command += ["--collection", COLLECTION, "--data", str(data), "--json"]
    command += ["--max-megapixels", str(settings.max_megapixels)]
    for option, value in (("--embedder", settings.embedder), ("--segmenter", settings.segmenter)):
        command += [option, value] if value is not None else []
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if finished.returncode != 0:
        raise IndexingError(finished.returncode)
    report = json.loads(finished.stdout)
    failed = [f"{failure['source']}: {failure['reason']}" for failure in report["failed"]]
    if failed and not report["images"] + report["skipped"]:
        raise InvalidRequest(f"none of the photos could be indexed; the first: {failed[0]}", field="folder")
    for line in failed[:FAILURES_TOLD]:
        tell(f"  left out: {line}")
    if len(failed) > FAILURES_TOLD:
        tell(f"  left out: {len(failed) - FAILURES_TOLD} more")


def _write(output: Path, answers: list[Answer], facts: SheetFacts) -> None:
    try:
        # Each appears whole or not at all: somebody may be looking at the last one.
        for name in (PNG_NAME, HTML_NAME):
            beside = output / f".{name}.part"
            if name == PNG_NAME:
                draw_contact_sheet(answers, facts).save(beside, "PNG")
            else:
                beside.write_text(contact_sheet_page(answers, facts), encoding="utf-8")
            beside.replace(output / name)
    except OSError as error:
        raise InvalidRequest(f"cannot write to {str(output)!r}: {error.strerror}", field="output") from error


def _first_score(answer: Answer) -> float:
    return answer.found[0].score if answer.found else 0.0


def _summary(answer: Answer) -> str:
    """One line: what was asked, what came first, and whether that was right."""
    question = answer.question
    first = f"{answer.found[0].image_id} ({answer.found[0].score:.2f})" if answer.found else "nothing"
    known = verdict(answer)
    line = f"  {question.kind + ':':<16}{question.sentence} -> {first}"
    return f"{line}; {known}" if known else line
