"""What every call goes through: room, strict parsing, one mapping of errors, a line in the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import grpc
from grpc_status import rpc_status

from regionsearch.errors import Cancelled, DeadlineExceeded, Overloaded, RegionSearchError
from regionsearch.serving.idleness import unless_idle
from regionsearch.serving.status import status_of
from regionsearch.serving.strictness import parse

if TYPE_CHECKING:
    # Generic in the type hints alone.
    Interceptor = grpc.ServerInterceptor[Any, Any]
else:
    Interceptor = grpc.ServerInterceptor

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Room: TypeAlias = tuple[str, int, threading.Semaphore]
"""What it is for, how many places it has, and these."""
OUR_METHODS = "/regionsearch."
UPLOADS = tuple(
    f"/regionsearch.v1.ImageService/{name}"
    for name in ("UpsertImages", "UpsertImageStream", "UpsertRecords", "UpsertRecordStream")
)
BATCHES = ("/regionsearch.v1.SearchService/BatchSearch",)
WALKS = (
    "/regionsearch.v1.ImageService/ExportImages",
    "/regionsearch.v1.ImageService/CountImages",
)
WATCHES = ("/regionsearch.v1.OperationService/WatchOperation",)
LONG_CALLS_ARE_ONE_IN = 4
"""Of the places for calls, for uploads, for batches of queries, and for walks through a collection with those
who watch an operation, each. Uploads are computed one at a time; the others wait, or wait for pictures. A
batch holds its place as long as all its queries take, an export as long as its reader takes."""
WATCHES_ARE_ONE_OF_WALKS_IN = 2
"""Of the places for walks, for those who watch an operation: they stay long and can ask instead."""
IDLE_SECONDS = 60.0
"""How long a stream may bring nothing before its place goes to somebody else."""
_LOG = logging.getLogger("regionsearch.serving")


def check_alive(context: grpc.ServicerContext) -> None:
    """Raises Cancelled when the caller has gone, DeadlineExceeded when its time is up.

    Called between the stages of a call, so that nobody's answer is not computed.
    """
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlineExceeded("the call's deadline passed before it was answered")
    if not context.is_active():
        raise Cancelled("the caller cancelled the call")


class Turnstile:
    """Lets a few callers at once into a stage; the others wait as long as they still want an answer."""

    # How often a waiting caller is asked whether it has gone.
    _PATIENCE_SECONDS = 0.1

    def __init__(self, places: int) -> None:
        self._free = threading.Semaphore(places)

    @contextmanager
    def turn(self, context: grpc.ServicerContext | None) -> Iterator[None]:
        """Raises Cancelled or DeadlineExceeded when that comes before a place is free. Without a
        context: what is to be done is due whether or not somebody still waits for it."""
        if context is not None:
            check_alive(context)
        while not self._free.acquire(timeout=self._PATIENCE_SECONDS):
            if context is not None:
                check_alive(context)
        try:
            yield
        finally:
            self._free.release()


class CallInterceptor(Interceptor):
    """Wraps the methods of this package's services; health and reflection pass untouched.

    `concurrent_calls` are answered at once, of which a quarter each (one at least) may be uploads, batches of
    queries, and walks through collections (half of which may be watched operations), so that these never keep
    searches out; one more gets RESOURCE_EXHAUSTED with a delay after which to try again. A stream that brings
    no message for `idle_seconds` gets DEADLINE_EXCEEDED.
    """

    def __init__(self, concurrent_calls: int, idle_seconds: float = IDLE_SECONDS) -> None:
        self._limit = concurrent_calls
        self._room = threading.Semaphore(concurrent_calls)
        self._long_limit = max(1, concurrent_calls // LONG_CALLS_ARE_ONE_IN)
        uploads, batches, walks = (threading.Semaphore(self._long_limit) for _ in range(3))
        walk = ("exports, counts and watched operations", self._long_limit, walks)
        watch_limit = max(1, self._long_limit // WATCHES_ARE_ONE_OF_WALKS_IN)
        watch = ("watched operations", watch_limit, threading.Semaphore(watch_limit))
        self._long_rooms: dict[str, tuple[_Room, ...]] = {
            **dict.fromkeys(UPLOADS, (("uploads", self._long_limit, uploads),)),
            **dict.fromkeys(BATCHES, (("batches of queries", self._long_limit, batches),)),
            **dict.fromkeys(WALKS, (walk,)),
            **dict.fromkeys(WATCHES, (watch, walk)),
        }
        self._idle_seconds = idle_seconds
        self.concealed: Callable[[str], str] = str
        """What clients may read of an error's message."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler: Any = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(OUR_METHODS):
            return handler  # type: ignore[no-any-return]
        # The deserialiser is the message class's own FromString: from it, the class. Parsing happens
        # here instead, where an error still becomes a status with details.
        kind = handler.request_deserializer.__self__

        def answer_one(data: bytes, context: grpc.ServicerContext) -> Any:
            with self._call(method, context):
                return handler.unary_unary(parse(data, kind), context)

        def answer_many(data: bytes, context: grpc.ServicerContext) -> Iterator[Any]:
            with self._call(method, context):
                yield from handler.unary_stream(parse(data, kind), context)

        def answer_stream(messages: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            with (
                self._call(method, context),
                unless_idle(_until_cut(messages), self._idle_seconds) as arriving,
            ):
                return handler.stream_unary((parse(data, kind) for data in arriving), context)

        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                answer_stream, response_serializer=handler.response_serializer
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                answer_many, response_serializer=handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            answer_one, response_serializer=handler.response_serializer
        )

    @contextmanager
    def _call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        started = time.perf_counter()
        outcome = "OK"
        try:
            with self._place(method):
                yield
        except Exception as error:
            # Whatever went wrong below ends here: it becomes a status, and never a lost call.
            outcome = error.reason if isinstance(error, RegionSearchError) else type(error).__name__
            if isinstance(error, RegionSearchError):
                error.message = self.concealed(error.message)
            _abort(context, error)
        finally:
            milliseconds = (time.perf_counter() - started) * 1000
            _LOG.debug("method=%s outcome=%s milliseconds=%.1f", method, outcome, milliseconds)

    @contextmanager
    def _place(self, method: str) -> Iterator[None]:
        with ExitStack() as places:
            refusal = f"{self._limit} calls are being answered and no more fit (limits.concurrent_calls)"
            places.enter_context(_one_of(self._room, refusal))
            for kind, limit, room in self._long_rooms.get(method, ()):
                refusal = (
                    f"{limit} {kind} are being answered and no more fit beside other calls "
                    f"(limits.concurrent_calls is {self._limit})"
                )
                places.enter_context(_one_of(room, refusal))
            yield


@contextmanager
def _one_of(places: threading.Semaphore, refusal: str) -> Iterator[None]:
    if not places.acquire(blocking=False):
        raise Overloaded(refusal)
    try:
        yield
    finally:
        places.release()


def _until_cut(messages: Iterator[bytes]) -> Iterator[bytes]:
    """The stream's messages. Raises Cancelled when it breaks off before its end."""
    try:
        yield from messages
    except grpc.RpcError as error:
        raise Cancelled("the stream broke off before its end") from error


def _abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    context.abort_with_status(rpc_status.to_status(status_of(error)))
    raise AssertionError("abort_with_status always raises")
