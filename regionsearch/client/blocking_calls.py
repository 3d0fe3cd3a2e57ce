"""A connection over which calls are made, each waiting for its answer."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from regionsearch.client.channel import (
    DEFAULT_MESSAGE_BYTES,
    DEFAULT_TIMEOUT_SECONDS,
    Stubs,
    channel_options,
)
from regionsearch.client.failures import error_from
from regionsearch.client.plain_values import seconds_of
from regionsearch.client.records import BATCH_BYTES
from regionsearch.client.remembering import Remembering


class BlockingCalls:
    """What `Client` is made of: see there."""

    def __init__(
        self,
        address: str,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_SECONDS,
        max_message_bytes: int = DEFAULT_MESSAGE_BYTES,
    ) -> None:
        self.address = address
        self._timeout = seconds_of(timeout)
        self._record_bytes = min(BATCH_BYTES, max_message_bytes // 2)
        self._channel = grpc.insecure_channel(address, options=channel_options(max_message_bytes))
        self._stubs = Stubs(self._channel)

    def close(self) -> None:
        """Ends the connection; calls in flight are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any, timeout: float | None, *, wait_for_ready: bool = False) -> Any:
        try:
            return method(
                request,
                timeout=self._timeout if timeout is None else seconds_of(timeout),
                wait_for_ready=wait_for_ready,
            )
        except grpc.RpcError as error:
            raise error_from(error) from error

    def _pages(self, method: Any, request: Any, timeout: float | None) -> Iterator[Any]:
        """The answers, page by page, each asked for when it is needed. timeout: seconds, of each page."""
        while True:
            page = self._call(method, request, timeout)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _send(self, method: Any, messages: Remembering, timeout: float | None) -> Any:
        """Sends a stream. timeout: seconds, of all of it; None waits for ever."""
        seconds = seconds_of(timeout)
        try:
            return method(messages, timeout=seconds)
        except grpc.RpcError as error:
            if messages.error is not None:
                # The stream ended because a message of ours could not be made.
                raise messages.error from None
            raise error_from(error) from error

    def _receive(self, method: Any, request: Any, timeout: float | None) -> Iterator[Any]:
        """Receives a stream, which ends when its reader does. timeout: seconds, of all of it; None: none."""
        call = method(request, timeout=seconds_of(timeout))
        try:
            yield from call
        except grpc.RpcError as error:
            raise error_from(error) from error
        finally:
            call.cancel()
