"""Opaque tokens that say where the next page of a listing begins."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib

from regionsearch.errors import InvalidRequest

_CHECK = struct.Struct("<I")


def page_token(collection: str, prefix: str, last_id: str, where: str = "") -> str:
    """The token of the page after `last_id`, good for this collection, prefix and filter alone."""
    last = last_id.encode()
    return base64.urlsafe_b64encode(_CHECK.pack(_check(collection, prefix, where, last)) + last).decode()


def last_id_of(token: str, collection: str, prefix: str, where: str = "") -> str:
    """Raises InvalidRequest when the token is not one of `page_token` for these."""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _bad_token() from error
    last = raw[_CHECK.size :]
    if len(raw) <= _CHECK.size or _CHECK.unpack_from(raw)[0] != _check(collection, prefix, where, last):
        raise _bad_token()
    try:
        return last.decode()
    except UnicodeDecodeError as error:  # whoever made it up got the checksum right
        raise _bad_token() from error


def _check(collection: str, prefix: str, where: str, last: bytes) -> int:
    # Collection names have no slash, and the lengths tell prefix, filter and id from each other.
    listing = f"{collection}/{len(prefix)}/{len(where)}/{prefix}{where}"
    return zlib.crc32(listing.encode("utf-8", "surrogatepass") + last)


def _bad_token() -> InvalidRequest:
    return InvalidRequest(
        "page token is not one that this listing gave (same collection, prefix and filter)",
        field="page_token",
    )
