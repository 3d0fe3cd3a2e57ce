"""The public surface: a name that appears or goes is a decision, and this list records it."""

from __future__ import annotations

import inspect

import pytest

import regionsearch

PUBLIC_NAMES = [
    "AsyncClient",
    "Box",
    "Client",
    "Mask",
    "Point",
    "Polygon",
    "RegionPrompt",
    "RegionSearchError",
    "__version__",
]


def test_the_package_offers_exactly_these_names() -> None:
    assert sorted(regionsearch.__all__) == PUBLIC_NAMES
    assert dir(regionsearch) == PUBLIC_NAMES


@pytest.mark.parametrize("name", [name for name in PUBLIC_NAMES if not name.startswith("_")])
def test_every_public_name_is_a_documented_class_of_this_package(name: str) -> None:
    offered = getattr(regionsearch, name)
    assert inspect.isclass(offered)
    assert offered.__name__ == name
    assert offered.__module__.startswith("regionsearch.")
    assert inspect.getdoc(offered)


def test_another_name_is_refused_by_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Segmenter'"):
        getattr(regionsearch, "Segmenter")  # noqa: B009 - the attribute must not exist for mypy either


def test_the_version_is_the_one_in_the_metadata() -> None:
    from importlib.metadata import version

    assert version("regionsearch") == regionsearch.__version__
