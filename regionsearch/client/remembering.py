"""What went wrong while a stream's messages were made."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import Message


class Remembering:
    """Hands on what an iterator yields, and keeps the error that ended it: gRPC reads it in a thread of
    its own and would report no more than that something failed."""

    def __init__(self, messages: Iterator[Message]) -> None:
        self._messages = messages
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise
