"""How benchmarks end: a table for people, JSON for programs, and the machine that it was measured on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """What a report says of the machine."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def hand_out(report: Mapping[str, Any], table: str, path: Path | None) -> None:
    """Prints the table, and the report as JSON: into the file at `path`, or below the table."""
    print(table)
    if path is not None:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    else:
        print(json.dumps(report))
