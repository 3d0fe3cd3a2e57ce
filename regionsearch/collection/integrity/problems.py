"""What is wrong with a data directory, in words that say what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Repair = Literal["repair", "drop", "restore"]


@dataclass(frozen=True, slots=True)
class Problem:
    """what: is wrong. where: file, sub-database, collection, image. costs: what cannot be had because of it.

    repair: `repair` mends it (`regionsearch verify --repair`); `drop`: mended by taking the image out, and
    only when that is asked for (`--drop-damaged`); `restore`: only a snapshot brings it back.
    stops: the directory cannot be opened like this. image_id: of the image that it is about, where one is and
    its id can be read.
    """

    what: str
    where: str
    costs: str
    repair: Repair
    stops: bool = False
    image_id: str = ""

    @property
    def blocks(self) -> bool:
        """Whether nothing of the directory can be mended while this lasts."""
        return self.stops and self.repair != "repair"

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.costs})"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Problem:
        return Problem(**values)


def broken_pages(what: str) -> Problem:
    """A fault in the catalog's pages themselves."""
    return Problem(
        what=what,
        where="catalog/data.mdb",
        costs="what lies on the pages concerned, and writing could destroy more",
        repair="restore",
        stops=True,
    )


def broken_free_pages(what: str) -> Problem:
    """A fault in LMDB's list of free pages: what is stored is whole, but writing would destroy it."""
    return Problem(
        what=what,
        where="catalog/data.mdb",
        costs="nothing yet, but writing could destroy what is stored",
        repair="repair",
        stops=True,
    )
