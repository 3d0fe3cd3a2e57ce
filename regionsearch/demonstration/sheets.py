"""The documentation's contact sheets: `python -m regionsearch.demonstration.sheets PHOTOS --out DIR`.

Indexes the photos, serves them, asks all questions of a file over gRPC, and draws for each kind of question
the two with the best and the two with the worst average precision. docs/pictures/README.md says where the
photos come from.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image as Pillow

from regionsearch.client import Client
from regionsearch.demonstration.answer_sheet import HITS_SHOWN, draw_sheet
from regionsearch.demonstration.demonstration import IndexingError, Settings, index_photos
from regionsearch.demonstration.server_process import ServerProcess
from regionsearch.demonstration.sheet_answers import SheetReader, best_and_worst
from regionsearch.demonstration.sheet_questions import SheetKind, read_plan
from regionsearch.demonstration.wording import counted
from regionsearch.errors import RegionSearchError

COLLECTION = "demo"
LARGEST_BYTES = 300_000
"""Of one sheet: a page of the documentation has several."""
QUALITIES = (88, 82, 76, 70, 64, 56, 48)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m regionsearch.demonstration.sheets", description=__doc__)
    parser.add_argument("photos", type=Path, help="the folder of photos")
    parser.add_argument("--questions", type=Path, help="default: questions.json beside the sheets")
    parser.add_argument("--out", type=Path, required=True, help="where the sheets go; must exist")
    parser.add_argument("--data", type=Path, help="keep the collection in this data directory")
    parser.add_argument("--embedder", help="of a new collection (default: compact)")
    parser.add_argument("--segmenter", help="of a new collection (default: compact)")
    arguments = parser.parse_args(words)
    try:
        make_sheets(arguments)
    except RegionSearchError as error:
        print(f"sheets: {error.message}", file=sys.stderr)
        return 1
    except IndexingError as failure:
        return failure.status  # `index` has said why
    return 0


def make_sheets(arguments: argparse.Namespace) -> None:
    """Draws every sheet. Raises InvalidRequest, IndexingError, and what the client raises."""
    plan = read_plan(arguments.questions or arguments.out / "questions.json")
    with tempfile.TemporaryDirectory(prefix="regionsearch-sheets-") as scratch:
        data = arguments.data or Path(scratch) / "data"
        settings = Settings(
            arguments.photos,
            arguments.out,
            data,
            embedder=arguments.embedder,
            segmenter=arguments.segmenter,
        )
        index_photos(settings, arguments.photos, data, print)
        with ServerProcess(data) as server, Client(server.address) as client:
            reader = SheetReader(client, COLLECTION, arguments.photos, plan)
            for kind in plan.kinds:
                path = arguments.out / f"{kind.name}.jpg"
                sheet, line = _sheet(reader, kind)
                path.write_bytes(encoded(sheet))
                print(f"{path}: {line}")


def _sheet(reader: SheetReader, kind: SheetKind) -> tuple[Pillow.Image, str]:
    answers = [reader.ask(question, HITS_SHOWN) for question in kind.questions]
    mean = sum(answer.average_precision for answer in answers) / len(answers)
    chance = sum(answer.relevant / answer.ranked for answer in answers) / len(answers)
    shown = best_and_worst(answers)
    facts = (
        f"mean average precision of {counted(len(answers), 'question')}: {mean:.2f} "
        f"(right answers make up {chance:.2f} of the photos); shown are the best and the worst by it"
    )
    return draw_sheet(kind.title, facts, shown), facts


def encoded(sheet: Pillow.Image) -> bytes:
    """As JPEG of at most LARGEST_BYTES, in the best quality that allows it."""
    for quality in QUALITIES:
        coded = io.BytesIO()
        sheet.save(coded, "JPEG", quality=quality, optimize=True, progressive=True)
        if coded.tell() <= LARGEST_BYTES:
            break
    return coded.getvalue()


if __name__ == "__main__":
    sys.exit(main())
