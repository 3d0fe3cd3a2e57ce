"""What a command answers: JSON alone, or lines for people."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any


def print_answer(arguments: argparse.Namespace, answer: Mapping[str, Any], lines: Sequence[str]) -> None:
    """The answer with `--json`, otherwise the lines."""
    if arguments.json:
        print(json.dumps(answer, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(lines))


def printed_pairs(pairs: Mapping[str, str]) -> list[str]:
    """Names and values in two columns."""
    width = max(map(len, pairs))
    return [f"{name:<{width}}  {value}" for name, value in pairs.items()]
