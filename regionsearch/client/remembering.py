"""What went wrong while a stream's messages were made."""

from __future__ import annotations

from collections.abc import Iterator

from regionsearch.v1 import images_pb2


class Remembering:
    """Hands on what an iterator yields, and keeps the error that ended it: gRPC reads it in a thread of
    its own and would report no more than that something failed."""

    def __init__(self, messages: Iterator[images_pb2.UpsertImageStreamRequest]) -> None:
        self._messages = messages
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[images_pb2.UpsertImageStreamRequest]:
        return self

    def __next__(self) -> images_pb2.UpsertImageStreamRequest:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise
