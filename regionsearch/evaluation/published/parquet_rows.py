"""Rows of the Parquet files in which benchmarks are published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regionsearch.errors import InvalidRequest


def read_columns(
    file: Path, required: Sequence[str], optional: Sequence[str] = (), limit: int | None = None
) -> Mapping[str, list[Any]]:
    """Columns by name as Python values, all of one length; optional ones only where the file has them.

    limit: rows at most, from the first on. Raises InvalidRequest, naming the file, when it cannot be
    read, lacks a required column, or has no row.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            there = parquet.schema_arrow.names
            missing = [name for name in required if name not in there]
            if missing:
                raise InvalidRequest(
                    f"{file} has no column {', '.join(map(repr, missing))}; it has {', '.join(there)}",
                    field="annotations",
                )
            wanted = [*required, *(name for name in optional if name in there)]
            table = parquet.read(columns=wanted)
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InvalidRequest(f"{file} cannot be read as Parquet: {reason}", field="annotations") from error
    if table.num_rows == 0:
        raise InvalidRequest(f"{file} has no rows", field="annotations")
    if limit is not None:
        table = table.slice(0, limit)
    return {name: table.column(name).to_pylist() for name in wanted}


def text_of(value: Any, column: str, file: Path, row: int) -> str:
    """The value as text, "" for null. Raises InvalidRequest for anything else, naming column and row."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(file, column, row, "text", value)
    return value


def texts_of(value: Any, column: str, file: Path, row: int) -> list[str]:
    """The value as a list of at least one text. Raises as `text_of` does."""
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise _wrong(file, column, row, "a list of one text or more", value)
    return list(value)


def numbers_of(value: Any, count: int, column: str, file: Path, row: int) -> list[float]:
    """The value as so many finite numbers, each as it is stored (an int stays one). Raises as `text_of`."""
    if (
        not isinstance(value, list)
        or len(value) != count
        or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)
        or not all(map(math.isfinite, value))
    ):
        raise _wrong(file, column, row, f"{count} finite numbers", value)
    return list(value)


def _wrong(file: Path, column: str, row: int, wanted: str, value: Any) -> InvalidRequest:
    return InvalidRequest(
        f"{file}, row {row}: column {column!r} holds {str(value)[:80]!r}, not {wanted}", field="annotations"
    )
