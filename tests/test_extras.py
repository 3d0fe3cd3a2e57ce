"""What a model or command imports comes with the extras that its page tells a user to install.

The environment of the tests has every package, so that a missing one would only be met by a user.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

BROUGHT_BY_TRANSFORMERS = {"tokenizers"}
"""A dependency of transformers itself: whoever has the one has the other."""
ONLY_FOR_TORCH = {ROOT / "regionsearch/models/runtime.py", ROOT / "regionsearch/models/checkpoints.py"}
"""Shared by all models; what they import inside functions is for devices and weights of torch alone."""

PARTS = {
    # (where reading begins, the extras that docs/models.md, training.md and quickstart.md name for it)
    "virtue": ("regionsearch/models/virtue", {"transformers"}),
    "abc": ("regionsearch/models/abc", {"transformers"}),
    "vlm": ("regionsearch/models/vlm", {"transformers"}),
    "dual_encoder": ("regionsearch/models/dual_encoder", {"transformers"}),
    "sam2": ("regionsearch/models/sam2", {"transformers"}),
    "compact": ("regionsearch/models/compact", {"compact-runtime"}),
    "connector": ("regionsearch/models/connector", {"compact-runtime"}),
    "train virtue": ("regionsearch/training/virtue", {"training", "benchmarks"}),
    "index": ("indexer", {"server", "faiss-cpu", "compact-runtime"}),
    "serve": ("regionsearch/serving", {"server", "faiss-cpu"}),
    "client": ("regionsearch/client", set[str]()),
}


def packages_of(extras: set[str]) -> set[str]:
    """Distributions that the extras declare, with those of the extras they name, and of none at all."""
    found: set[str] = set()
    waiting = [*METADATA["dependencies"]]
    for extra in extras:
        waiting += METADATA["optional-dependencies"][extra]
    while waiting:
        name, _, inner = re.match(r"([\w.-]+)(\[([\w,-]+)\])?", waiting.pop()).group(1, 2, 3)  # type: ignore[union-attr]
        if name == "regionsearch":
            for extra in inner.split(","):
                waiting += METADATA["optional-dependencies"][extra]
        else:
            found.add(re.sub(r"[-_.]+", "-", name).lower())
    return found


def files_of(place: str) -> list[Path]:
    path = ROOT / place
    if path.is_dir():
        return sorted(path.rglob("*.py"))
    return [path.with_suffix(".py")] if path.with_suffix(".py").exists() else []


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports when it runs; what only the type checker reads is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def third_party(place: str) -> dict[str, Path]:
    """Top-level modules from elsewhere, and a file that imports each, over all files within reach."""
    found: dict[str, Path] = {}
    waiting, seen = files_of(place), set[Path]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imported(path):
            top = name.partition(".")[0]
            if top in ("regionsearch", "indexer"):
                module = ROOT / Path(*name.split("."))
                # Importing a module runs the packages above it too.
                above = [folder / "__init__.py" for folder in module.parents if folder.is_relative_to(ROOT)]
                candidates = [module.with_suffix(".py"), module / "__init__.py", *above]
                waiting += [each for each in candidates if each.exists() and "v1" not in each.parts]
            elif top not in sys.stdlib_module_names:
                found.setdefault(top, path)
    return found


@pytest.mark.parametrize("part", list(PARTS))
def test_the_extras_of_a_part_bring_all_that_it_imports(part: str) -> None:
    place, extras = PARTS[part]
    declared = packages_of(extras)
    if "transformers" in declared:
        declared |= BROUGHT_BY_TRANSFORMERS
    by_module = packages_distributions()
    missing = {}
    for module, path in third_party(place).items():
        if path in ONLY_FOR_TORCH and "transformers" not in declared:
            continue
        bringing = {re.sub(r"[-_.]+", "-", name).lower() for name in by_module.get(module, [module])}
        if not bringing & declared:
            missing[module] = str(path.relative_to(ROOT))
    assert missing == {}


def test_every_page_installs_a_checkout_so_that_python_runs_inside_of_it() -> None:
    """A copy of the package elsewhere is hidden by the checkout's folder, which has no generated code."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    said = [
        (page.name, line)
        for page in pages
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.search(r"pip install (?:\S+ )*?'?\.['\[ `]", line)
    ]
    assert "README.md" in dict(said)
    assert [each for each in said if "-e" not in each[1].split()] == []
