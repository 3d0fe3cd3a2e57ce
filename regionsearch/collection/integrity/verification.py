"""`verify`: walks everything that is stored, and says what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from regionsearch.collection.directory_layout import (
    CATALOG,
    DATA,
    MARKER,
    check_marker,
    open_directory,
    refuse_strangers,
    writer_is_at_work,
)
from regionsearch.collection.environment import DEFAULT_MAP_SIZE
from regionsearch.collection.integrity.clean_stop import stopped_cleanly
from regionsearch.collection.integrity.derived_checks import DerivedChecks
from regionsearch.collection.integrity.examination import Examination, examine_catalog
from regionsearch.collection.integrity.image_names import with_image_ids
from regionsearch.collection.integrity.problems import Problem
from regionsearch.errors import DataLoss, NotADataDirectory

_SHARE_OF_CATALOG = 0.6
"""Of the progress; measured on 125,000 images."""

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """problems: what is wrong now. mended: what was, before `repair` mended it. images: that were read.
    fill: share of the catalog's room that is in use, 0 to 1; None when it could not be opened."""

    problems: tuple[Problem, ...]
    images: int = 0
    fill: float | None = None
    mended: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def blocked(self) -> bool:
        """Whether something keeps `repair` from mending anything at all."""
        return any(problem.blocks for problem in self.problems)


def verify(
    path: Path,
    *,
    thorough: bool = True,
    progress: Progress | None = None,
    check: Callable[[], None] | None = None,
) -> VerifyReport:
    """Reads all of a data directory and changes nothing. A process may be writing to it: each part is then
    judged as of one moment.

    thorough: every byte; otherwise what an open after a kill looks at, and the segments' files.
    progress: 0 to 1. check: raises Cancelled. What is damaged is in the report, not raised.
    Raises NotADataDirectory, UnsupportedFormat (newer than this version), ReadOnly.
    """
    path = Path(path)
    report = progress or (lambda _: None)
    stop_when = check or (lambda: None)
    found = check_outside(path)
    if any(problem.stops for problem in found):
        return VerifyReport(tuple(found))
    beside_writer = writer_is_at_work(path)
    examined = examine_catalog(
        path / CATALOG / DATA,
        thorough=thorough,
        beside_writer=beside_writer and os.access(path / CATALOG, os.W_OK),
        progress=lambda done: report(_SHARE_OF_CATALOG * done),
        check=stop_when,
    )
    found += [*examined.problems, *wasted_pages(examined)]
    if examined.format in ("1", "1 to 2"):
        found.append(
            Problem(
                f"the format is {examined.format}, whose rows have no checksums",
                CATALOG,
                "damage that cannot be noticed; it cannot be read by this version",
                "repair",
            )
        )
    if examined.format != "2" or any(problem.stops for problem in examined.problems):
        return VerifyReport(tuple(found), examined.images)
    environment, lock = open_directory(path, writable=False, map_size=DEFAULT_MAP_SIZE, examine=False)
    try:
        derived = DerivedChecks(path, environment, thorough=thorough, beside_writer=beside_writer)
        found = with_image_ids(environment, found)
        derived.run(lambda done: report(_SHARE_OF_CATALOG + (1 - _SHARE_OF_CATALOG) * done), stop_when)
        fill = environment.fill()
    finally:
        environment.close()
        if lock is not None:
            lock.release()
    return VerifyReport((*found, *derived.problems), examined.images, fill)


def check_outside(path: Path) -> list[Problem]:
    """What can be told without reading the catalog's pages. Raises NotADataDirectory, UnsupportedFormat."""
    if not path.is_dir():
        raise NotADataDirectory(f"'{path}' is not a directory")
    refuse_strangers(path)
    if not (path / MARKER).exists():
        raise NotADataDirectory(f"'{path}' is no data directory: it has no '{MARKER}'")
    try:
        check_marker(path, writable=True)
    except DataLoss as error:
        return [Problem(error.message, MARKER, "the directory cannot be opened", "repair", stops=True)]
    data = path / CATALOG / DATA
    if not data.is_file() or data.stat().st_size == 0:
        return [
            Problem(
                "it is missing or empty", f"{CATALOG}/{DATA}", "all that was stored", "restore", stops=True
            )
        ]
    try:
        stopped_cleanly(path, data)
    except DataLoss as error:
        return [Problem(error.message, f"{CATALOG}/{DATA}", "commits may be missing", "repair")]
    return []


def wasted_pages(examined: Examination) -> list[Problem]:
    if not examined.lost_pages or any(problem.stops for problem in examined.problems):
        return []
    return [
        Problem(
            f"{examined.lost_pages} pages are neither used nor free",
            f"{CATALOG}/{DATA}",
            "their place",
            "repair",
        )
    ]
