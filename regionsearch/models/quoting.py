"""What error messages quote of things that can be long."""

from __future__ import annotations

from collections.abc import Sequence

_NAMED_AT_MOST = 5


def some_of(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def first_line(error: BaseException) -> str:
    """Of what an error says, or its type where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
