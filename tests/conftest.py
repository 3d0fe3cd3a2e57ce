"""What all tests share: the --slow option, the annotated photos, one hypothesis profile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Machines that run tests are busy: a deadline would fail on their load, not on our code.
settings.register_profile(
    "regionsearch",
    deadline=None,
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("regionsearch")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too (minutes)")
    for name, what in {
        "--operations": "random operations of the collection's model test",
        "--kills": "kills of a writer under load",
        "--losses": "moments at which all that was not synced is lost",
        "--flips": "flipped bytes of a catalog",
    }.items():
        parser.addoption(name, type=int, metavar="N", help=f"{what}, instead of the usual number")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of annotated photos (`coco128`, `bsds500_val`, ...) that REGIONSEARCH_DATA names.

    Skips the test when the variable is not set; a variable that names no folder is a mistake, not a skip.
    """
    named = os.environ.get("REGIONSEARCH_DATA")
    if not named:
        pytest.skip("REGIONSEARCH_DATA is not set: it names the folder of annotated photos")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"REGIONSEARCH_DATA names {named!r}, which is not a folder")
    return folder


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """The folder of golden tensors (`virtue`, `abc`) of the published models' own code, which
    REGIONSEARCH_GOLDEN names. Skips without it, as `data_folder` does."""
    named = os.environ.get("REGIONSEARCH_GOLDEN")
    if not named:
        pytest.skip("REGIONSEARCH_GOLDEN is not set: it names the folder of golden tensors")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"REGIONSEARCH_GOLDEN names {named!r}, which is not a folder")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working tree."""
    return Path(__file__).resolve().parents[1]
