"""Imports go one way; each folder knows only what lies below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# The lowest layer: plain values. What each of them may use of the others is in LOWEST_LAYER.
VALUES = {"errors", "run_length", "regions", "images", "entities", "fingerprint"}
LOWEST_LAYER = {
    "errors": set[str](),
    "fingerprint": {"errors"},
    "run_length": {"errors"},
    "regions": {"errors", "run_length"},
    "images": {"errors"},
    "entities": {"errors", "regions", "run_length"},
}

STORED = VALUES | {"filters", "models", "collection"}
MAY_USE: dict[str, set[str]] = {
    **LOWEST_LAYER,
    "config": {"errors"},
    "models": VALUES,
    "filters": {"errors"},
    "collection": VALUES | {"filters"},
    "ingest": STORED | {"config"},
    "search": STORED | {"ingest", "config"},
    "evaluation": STORED | {"ingest", "search", "config"},
    "training": STORED | {"ingest", "search", "config"},
    # `v1` are the modules generated from proto/, `__init__` is the package's own version.
    "protobuf_shapes": {"errors", "regions", "run_length", "v1"},
    "contract_names": {"v1"},
    "serving": STORED | {"ingest", "search", "config", "v1", "protobuf_shapes", "contract_names", "__init__"},
    "client_messages": {"errors", "regions", "images", "v1", "protobuf_shapes"},
    "client": {"errors", "regions", "images", "v1", "protobuf_shapes", "contract_names", "client_messages"},
    "demonstration": {"errors", "regions", "images", "client", "client_messages"},
    "indexer": STORED | {"ingest", "config"},
}
# `cli` may use everything, and nothing uses `cli` but the two doors into it.
MAY_USE["cli"] = set(MAY_USE) | {"__init__"}
MAY_USE["__main__"] = {"cli"}
# The package hands on public names, lazily; what they cost is test_import_time's business.
MAY_USE["__init__"] = {"client", "errors", "regions"}

STORAGE_ENGINES = {"lmdb", "faiss"}
GRPC = {"grpc", "grpc_status", "grpc_health", "grpc_reflection", "google"}
KNOWS_GRPC = {"serving", "client", "client_messages", "v1"}


def part_of(path: Path) -> str:
    """The part of the house that a file belongs to: `models` for regionsearch/models/compact/x.py."""
    below = path.relative_to(ROOT).with_suffix("").parts
    return "indexer" if below[0] == "indexer" else below[1]


def imports_of(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, also those inside functions and under TYPE_CHECKING."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def target_of(imported: str) -> str | None:
    """The part of the house that an import names, or None for other packages."""
    first, *rest = imported.split(".")
    if first == "indexer":
        return "indexer"
    if first != "regionsearch":
        return None
    named = rest[0] if rest else "__init__"
    if (ROOT / "regionsearch" / named).is_dir() or (ROOT / "regionsearch" / f"{named}.py").is_file():
        return named
    return "v1" if named == "v1" else "__init__"  # `from regionsearch import __version__`


def source_files() -> list[Path]:
    found = [*(ROOT / "regionsearch").rglob("*.py"), *(ROOT / "indexer").rglob("*.py")]
    return sorted(path for path in found if (ROOT / "regionsearch" / "v1") not in path.parents)


def faults(path: Path, source: str) -> list[str]:
    """One line for every import of this file that breaks the order."""
    part = part_of(path)
    where = path.relative_to(ROOT)
    if part not in MAY_USE:
        return [f"{where}: {part!r} has no place in the import order; give it one in this test"]
    found = []
    for line, imported in imports_of(path, source):
        target = target_of(imported)
        top = imported.split(".")[0]
        if target is not None and target != part and target not in MAY_USE[part]:
            found.append(f"{where}:{line}: {part} may not use {target} ({imported})")
        if top in STORAGE_ENGINES and part != "collection":
            found.append(f"{where}:{line}: only collection/ opens LMDB or FAISS files ({imported})")
        if top in GRPC and part not in KNOWS_GRPC:
            found.append(f"{where}:{line}: {part} may not know gRPC ({imported})")
    return found


def test_imports_go_one_way() -> None:
    files = source_files()
    assert len(files) > 20  # the walk finds the library at all
    assert [fault for path in files for fault in faults(path, path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("regionsearch/models/compact/embedder.py", "def f():\n    from regionsearch.search import Query\n"),
        ("regionsearch/search/engine.py", "import grpc\n"),
        ("regionsearch/search/engine.py", "import faiss\n"),
        ("regionsearch/client.py", "from regionsearch.config import Limits\n"),
        ("regionsearch/serving/server.py", "from regionsearch.cli import main\n"),
        ("regionsearch/collection/records.py", "from ..ingest import pipeline\n"),
        ("indexer/pipeline.py", "from regionsearch.search.query import Query\n"),
        ("regionsearch/config.py", "from regionsearch import images\n"),
        ("regionsearch/newcomer/things.py", "import math\n"),
        (
            "regionsearch/ingest/pipeline.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import regionsearch.evaluation\n",
        ),
    ],
)
def test_an_import_against_the_order_is_found(path: str, source: str) -> None:
    assert len(faults(ROOT / path, source)) == 1
