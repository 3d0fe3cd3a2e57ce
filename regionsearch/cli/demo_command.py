"""`regionsearch demo`: indexes photos, asks about them, and writes a contact sheet."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from regionsearch.config import Limits

DEFAULT_OUTPUT = Path("demo-output")


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="index photos, ask about them and draw a contact sheet",
        description="Indexes a folder of photos (without FOLDER: those that ship inside scikit-image), "
        "starts a server on a free port of this machine, asks it questions that follow from what was "
        "indexed, and writes a contact sheet: contact-sheet.png and contact-sheet.html.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="photos, read recursively")
    parser.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        metavar="DIR",
        help="where the contact sheet goes; made if it does not exist (default: %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="keep the collection in this data directory; a second run skips unchanged photos "
        "(default: a temporary one)",
    )
    parser.add_argument("--embedder", metavar="E", help="of a new collection (default: compact)")
    parser.add_argument("--segmenter", metavar="S", help="of a new collection (default: compact)")
    parser.add_argument(
        "--text",
        action="append",
        default=[],
        metavar="T",
        help="a question in words to ask instead of the usual ones; can be repeated",
    )
    parser.add_argument(
        "--max-megapixels",
        type=float,
        default=Limits().image_megapixels,
        metavar="M",
        help="larger photos are refused before they are decoded (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from regionsearch.demonstration import IndexingError, Settings, run_demonstration

    # Without this, SIGTERM would end us at once and leave the server running.
    signal.signal(signal.SIGTERM, _leave)
    settings = Settings(
        folder=arguments.folder,
        output=arguments.output,
        data=arguments.data,
        embedder=arguments.embedder,
        segmenter=arguments.segmenter,
        words=tuple(arguments.text),
        max_megapixels=arguments.max_megapixels,
    )
    try:
        run_demonstration(settings, lambda line: print(line, flush=True))
    except IndexingError as failure:
        return failure.status  # `index` has said why
    return 0


def _leave(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
