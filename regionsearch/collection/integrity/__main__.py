"""The program that examines a catalog, in a process of its own: what is damaged can harm no other.

    python -m regionsearch.collection.integrity DATA.MDB [--thorough] [--beside-writer]

Prints lines of JSON: {"progress": 0 to 1} now and then, which also shows that it is not stuck, and at last
what an `Examination` holds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from regionsearch.collection.integrity.examine import examine


def main() -> int:
    parser = argparse.ArgumentParser(prog="examine", allow_abbrev=False)
    parser.add_argument("data", type=Path)
    parser.add_argument("--thorough", action="store_true")
    parser.add_argument("--beside-writer", action="store_true")
    arguments = parser.parse_args()

    def say(what: dict[str, Any]) -> None:
        print(json.dumps(what), flush=True)

    say(examine(arguments.data, arguments.thorough, arguments.beside_writer, say))
    return 0


if __name__ == "__main__":
    sys.exit(main())
