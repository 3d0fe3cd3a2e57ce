"""Times as RFC 3339 writes them, as instants."""

from __future__ import annotations

import re
from datetime import date

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH = date(1970, 1, 1).toordinal()


def instant_of(text: str) -> int | None:
    """Microseconds since 1970, UTC, of an RFC 3339 date and time with its zone; None for any other text.

    Digits beyond the microsecond are cut off. A leap second (:60) counts as the second after it.
    """
    # All that is longer is no time, or has digits that are cut off anyway; and most texts end here.
    if len(text) < 20 or text[4] != "-":
        return None
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.group(1, 2, 3, 4, 5, 6))
    if hour > 23 or minute > 59 or second > 60:
        return None
    try:
        days = date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None
    fraction = (found.group(7) or "")[:6].ljust(6, "0")
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second
    if found.group(9) is not None:
        offset_hours, offset_minutes = int(found.group(10)), int(found.group(11))
        if offset_hours > 23 or offset_minutes > 59:
            return None
        offset = offset_hours * 3_600 + offset_minutes * 60
        seconds += offset if found.group(9) == "-" else -offset
    return seconds * 1_000_000 + int(fraction)
