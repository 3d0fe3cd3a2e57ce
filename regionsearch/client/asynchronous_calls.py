"""A connection over which calls are made, for one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

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


class AsyncCalls:
    """What `AsyncClient` is made of: see there."""

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
        self._channel = grpc.aio.insecure_channel(address, options=channel_options(max_message_bytes))
        self._stubs = Stubs(self._channel)
        # grpc.aio loses the status of a stream that the server ends while a message is being written
        # ("Internal error from Core"). Streams to the server therefore go over an ordinary channel.
        self._stream_channel = grpc.insecure_channel(address, options=channel_options(max_message_bytes))
        self._stream_stubs = Stubs(self._stream_channel)

    async def close(self) -> None:
        """Ends the connection; calls in flight are cancelled."""
        self._stream_channel.close()
        await self._channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(
        self, method: Any, request: Any, timeout: float | None, *, wait_for_ready: bool = False
    ) -> Any:
        try:
            return await method(
                request,
                timeout=self._timeout if timeout is None else seconds_of(timeout),
                wait_for_ready=wait_for_ready,
            )
        except grpc.aio.AioRpcError as error:
            raise error_from(error) from error

    async def _pages(self, method: Any, request: Any, timeout: float | None) -> AsyncIterator[Any]:
        """The answers, page by page, each asked for when it is needed. timeout: seconds, of each page."""
        while True:
            page = await self._call(method, request, timeout)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _send(self, method: Any, messages: Remembering, timeout: float | None) -> Any:
        """Sends a stream, by a method of the ordinary channel. timeout: seconds, of all of it; None waits for
        ever."""
        call = method.future(messages, timeout=seconds_of(timeout))
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        call.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
        try:
            await ended.wait()
        except asyncio.CancelledError:
            call.cancel()
            raise
        try:
            return call.result()
        except grpc.RpcError as error:
            if messages.error is not None:
                # The stream ended because a message of ours could not be made.
                raise messages.error from None
            raise error_from(error) from error

    async def _receive(self, method: Any, request: Any, timeout: float | None) -> AsyncIterator[Any]:
        """Receives a stream, which ends when its reader does. timeout: seconds, of all of it; None: none."""
        call = method(request, timeout=seconds_of(timeout))
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise error_from(error) from error
        finally:
            call.cancel()
