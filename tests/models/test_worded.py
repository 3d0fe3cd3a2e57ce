"""Every embedder can be asked for its own words: the registry's casts would not notice one that cannot."""

from __future__ import annotations

import ast
from pathlib import Path

MODELS = Path(__file__).resolve().parents[2] / "regionsearch" / "models"


def methods_of_embedders() -> dict[str, set[str]]:
    """By class: the methods of every class below `models/` that embeds images, the protocol apart."""
    found = {}
    for path in sorted(MODELS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef) or path == MODELS / "embedder.py":
                continue
            methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            if "embed_images" in methods:
                found[f"{path.relative_to(MODELS)}: {node.name}"] = methods
    return found


def test_every_embedder_reads_inputs_and_words_them() -> None:
    embedders = methods_of_embedders()
    assert len(embedders) >= 2
    lacking = {name for name, methods in embedders.items() if not {"embed_inputs", "worded"} <= methods}
    assert lacking == set()
