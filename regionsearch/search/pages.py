"""Tokens that ask for the next hits of an answer.

A token says which page comes next and carries two digests: of the question, so that it is not used with
another one, and of what was searched (the collection's content, its statistics, the scoring), so that pages
that would not fit together are refused. It is a note to the server and no secret: whoever forges one
gets another page of his own question.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from regionsearch.errors import FailedPrecondition, InvalidRequest
from regionsearch.search.query import Query

DIGEST_BYTES = 12
_VERSION = 1
_BODY = struct.Struct(f"<BI{DIGEST_BYTES}s{DIGEST_BYTES}s")
_CHECK = struct.Struct("<I")
_NOT_ASKED = ("page_token", "image_name")
"""Fields of a query that do not change its ranking."""


def token_of(page: int, query: Query, searched: str) -> str:
    """page: the one to come, from 2. searched: names all that the ranking depends on besides the query."""
    body = _BODY.pack(_VERSION, page, query_digest(query), _digest(searched.encode()))
    # The version comes first: no token begins with a hyphen, which a command line takes for an option.
    return base64.urlsafe_b64encode(body + _CHECK.pack(zlib.crc32(body))).decode()


def page_of(query: Query, searched: str) -> int:
    """The page that a query asks for, from 1.

    Raises InvalidRequest for a token that is none or was given for another query, and FailedPrecondition
    when what is searched is no longer what the page before was made of.
    """
    if not query.page_token:
        return 1
    page, asked, was_searched = _parsed(query.page_token)
    if asked != query_digest(query):
        raise InvalidRequest(
            "the page token was given for another query; send the same query with it, limit and all",
            field="page_token",
        )
    if was_searched != _digest(searched.encode()):
        raise FailedPrecondition(
            "the collection (or what scores it) is no longer what the page before was made of; ask again "
            "from the first page",
            field="page_token",
        )
    return page


def check_token(token: str) -> None:
    """Raises InvalidRequest for one that `token_of` never made."""
    if token:
        _parsed(token)


def query_digest(query: Query) -> bytes:
    """Equal for queries that ask the same."""
    said = {field.name: getattr(query, field.name) for field in fields(query)}
    return _digest(_canonical({name: value for name, value in said.items() if name not in _NOT_ASKED}))


def _parsed(token: str) -> tuple[int, bytes, bytes]:
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _bad_token() from error
    body = raw[: _BODY.size]
    if len(raw) != _BODY.size + _CHECK.size or _CHECK.unpack_from(raw, _BODY.size)[0] != zlib.crc32(body):
        raise _bad_token()
    version, page, asked, searched = _BODY.unpack(body)
    if version != _VERSION or page < 2:
        raise _bad_token()
    return int(page), asked, searched


def _bad_token() -> InvalidRequest:
    return InvalidRequest("the page token is not one that a search gave", field="page_token")


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def _canonical(value: Any) -> bytes:
    """Bytes that are equal for equal values and different for others, whatever they are made of."""
    if isinstance(value, np.ndarray):
        shape = f"{value.dtype}{value.shape}".encode()
        return _tagged(b"a", shape, hashlib.sha256(np.ascontiguousarray(value).data).digest())
    if is_dataclass(value):
        return _tagged(
            b"d",
            type(value).__name__.encode(),
            *(_canonical(getattr(value, field.name)) for field in fields(value)),
        )
    if isinstance(value, Mapping):
        items = sorted((str(key), _canonical(each)) for key, each in value.items())
        return _tagged(b"m", *(part for key, each in items for part in (key.encode(), each)))
    if isinstance(value, (list, tuple)):
        return _tagged(b"l", *map(_canonical, value))
    if isinstance(value, bytes):
        return _tagged(b"b", hashlib.sha256(value).digest())
    if isinstance(value, (bool, np.bool_)) or value is None:
        return _tagged(b"c", repr(value).encode())
    if isinstance(value, (int, float, np.number)):
        # 1 and 1.0 ask the same.
        return _tagged(b"n", repr(float(value)).encode())
    return _tagged(b"s", str(value).encode("utf-8", "surrogatepass"))


def _tagged(tag: bytes, *parts: bytes) -> bytes:
    return tag + b"".join(struct.pack("<Q", len(part)) + part for part in parts) + b"."
