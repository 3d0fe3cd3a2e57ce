"""Which images problems are about: people know them by ids, the rows of the catalog by numbers."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import replace

from regionsearch.collection.catalog import IdRow
from regionsearch.collection.environment import Environment
from regionsearch.collection.integrity.problems import Problem
from regionsearch.collection.row_seals import SEAL_BYTES, is_sealed
from regionsearch.collection.spec_rows import spec_from_json, stored_spec

_COLLECTION = struct.Struct(">I")
_IMAGE = re.compile(r"image number (\d+) of collection '(.+?)'")


def with_image_ids(environment: Environment, problems: Sequence[Problem]) -> list[Problem]:
    """The problems, with the ids of the images that they name by number, as far as `ids` still tells them."""
    numbers: dict[str, set[int]] = {}
    for problem in problems:
        if found := _IMAGE.search(problem.where):
            numbers.setdefault(found[2], set()).add(int(found[1]))
    ids = {name: _ids_of(environment, name, wanted) for name, wanted in numbers.items()}
    return [_named(problem, ids) for problem in problems]


def _ids_of(environment: Environment, name: str, numbers: set[int]) -> dict[int, str]:
    known = {}
    with environment.transaction() as transaction:
        stored = stored_spec(environment, transaction, name)
        if stored is None:
            return {}
        prefix = _COLLECTION.pack(spec_from_json(stored)[1])
        with transaction.cursor(db=environment.database("ids")) as cursor:
            for key, value in cursor.iternext() if cursor.set_range(prefix) else ():
                if key[: len(prefix)] != prefix:
                    break
                if not is_sealed("ids", key, value):
                    continue
                number = IdRow.unpack(value[:-SEAL_BYTES]).number
                if number in numbers:
                    known[number] = bytes(key[len(prefix) :]).decode("utf-8", "replace")
    return known


def _named(problem: Problem, ids: dict[str, dict[int, str]]) -> Problem:
    found = _IMAGE.search(problem.where)
    if found is None:
        return problem
    number, name = int(found[1]), found[2]
    image_id = ids[name].get(number, "")
    image = f"image '{image_id}' (number {number})" if image_id else f"image number {number}"
    unknown = "" if image_id else ", whose id cannot be read"
    where = _IMAGE.sub(lambda _: f"{image} of collection '{name}'{unknown}", problem.where)
    return replace(problem, where=where, image_id=image_id)
