"""Refuses what the contract does not know: an option that is ignored is an answer that is wrong.

protobuf keeps fields and enum values that it does not know and lets them pass. A client of a later
version, or one with a typing slip in its own copy of the contract, would never hear that its filter
was not applied.
"""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from regionsearch.errors import InvalidRequest

JUDGED_APART = {"regionsearch.v1.BatchSearchRequest": frozenset({"requests"})}
"""Fields that hold requests of their own. Whoever answers them refuses what is unknown in each, so that it
does not disturb the others."""
MAX_MESSAGES = 20_000
"""Points, rings, examples, pictures and so on in one request, each of which is looked at here: a third of a
second. As few bytes as one may have, the largest request could hold thirty million."""

Request = TypeVar("Request", bound=Message)


def parse(data: bytes, kind: type[Request]) -> Request:
    """The message in these bytes.

    Raises InvalidRequest if they are no such message, or for anything in it that is unknown here.
    """
    try:
        message = kind.FromString(data)
    except DecodeError as error:
        name = kind.DESCRIPTOR.full_name
        raise InvalidRequest(f"the request's {len(data)} bytes are not a {name}") from error
    refuse_unknown(message, apart=JUDGED_APART.get(kind.DESCRIPTOR.full_name, frozenset()))
    return message


def refuse_unknown(message: Message, apart: frozenset[str] = frozenset()) -> None:
    """Raises InvalidRequest, naming where, if the message or one inside it has an unknown field or
    enum value, or if there are more than MAX_MESSAGES inside it. apart: fields of the message that are not
    looked into."""
    _refuse_inside(message, "", apart, MAX_MESSAGES)


def _refuse_inside(message: Message, path: str, apart: frozenset[str], room: int) -> int:
    """room: for how many messages there is still room; returns what is left of it."""
    fields: Any = UnknownFieldSet(message)
    unknown = sorted(field.field_number for field in fields)
    if unknown:
        where = path or message.DESCRIPTOR.name
        raise InvalidRequest(
            f"{where} has a field {unknown[0]} that this server does not know "
            f"({message.DESCRIPTOR.full_name})",
            field=f"{path}.{unknown[0]}" if path else str(unknown[0]),
        )
    for descriptor, value in message.ListFields():
        here = f"{path}.{descriptor.name}" if path else descriptor.name
        if descriptor.type == FieldDescriptor.TYPE_ENUM:
            _refuse_unknown_value(descriptor, value, here)
        elif descriptor.type == FieldDescriptor.TYPE_MESSAGE and descriptor.name not in apart:
            room = _refuse_in_field(descriptor, value, here, room)
    return room


def _refuse_unknown_value(descriptor: FieldDescriptor, value: int, path: str) -> None:
    enum = descriptor.enum_type
    if enum is not None and value not in enum.values_by_number:
        known = ", ".join(entry.name for entry in enum.values)
        raise InvalidRequest(f"{path} is {value}, which is none of {known}", field=path)


def _refuse_in_field(descriptor: FieldDescriptor, value: Any, path: str, room: int) -> int:
    kind = descriptor.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return room  # maps of this contract hold plain values, and an entry keeps no unknown fields
    if not descriptor.is_repeated:
        return _refuse_inside(value, path, frozenset(), room - 1)
    room -= len(value)
    if room < 0:
        raise InvalidRequest(
            f"{path} has {len(value)} entries; all lists of a request have room for {MAX_MESSAGES} together",
            field=path,
        )
    for number, entry in enumerate(value):
        room = _refuse_inside(entry, f"{path}[{number}]", frozenset(), room)
    return room
