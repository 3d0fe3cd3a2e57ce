"""OperationService."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from regionsearch.collection.page_tokens import last_id_of, page_token
from regionsearch.contract_names import OPERATION_KINDS, OPERATION_STATES
from regionsearch.errors import CollectionNotFound, InvalidRequest
from regionsearch.serving.backend import Backend
from regionsearch.serving.calls import check_alive
from regionsearch.serving.operation_messages import operation_to_message
from regionsearch.serving.operations import Operation
from regionsearch.serving.required import page_size_of, required
from regionsearch.v1 import operations_pb2 as pb
from regionsearch.v1 import operations_pb2_grpc

WATCH_SECONDS = 0.25
"""How often somebody who watches is asked whether they have gone."""


class OperationServicer(operations_pb2_grpc.OperationServiceServicer):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def GetOperation(  # noqa: N802
        self, request: pb.GetOperationRequest, context: grpc.ServicerContext
    ) -> pb.GetOperationResponse:
        operation = self._backend.operations.get(required(request.id, "id"))
        return pb.GetOperationResponse(operation=operation_to_message(operation))

    def ListOperations(  # noqa: N802
        self, request: pb.ListOperationsRequest, context: grpc.ServicerContext
    ) -> pb.ListOperationsResponse:
        size = page_size_of(request.page_size if request.HasField("page_size") else None)
        asked = f"operations/{request.kind}/{request.state}"
        before = _number_in(request.page_token, asked, request.collection)
        collection = self._own_name(request.collection)
        found = [
            operation
            for operation in self._backend.operations.listed()
            if (before is None or operation.number < before)
            and collection in ("", operation.collection)
            and request.kind in (pb.OPERATION_KIND_UNSPECIFIED, OPERATION_KINDS[operation.kind])
            and request.state in (pb.OPERATION_STATE_UNSPECIFIED, OPERATION_STATES[operation.state])
        ]
        response = pb.ListOperationsResponse(operations=map(operation_to_message, found[:size]))
        if len(found) > size:
            response.next_page_token = page_token(asked, request.collection, str(found[size - 1].number))
        return response

    def WatchOperation(  # noqa: N802
        self, request: pb.WatchOperationRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchOperationResponse]:
        operations = self._backend.operations
        told: Operation | None = None
        operation = operations.get(required(request.id, "id"))
        while True:
            check_alive(context)
            if operation != told:
                told = operation
                yield pb.WatchOperationResponse(operation=operation_to_message(operation))
            if told.ended:
                return
            operation = operations.wait_for_change(told, WATCH_SECONDS)

    def CancelOperation(  # noqa: N802
        self, request: pb.CancelOperationRequest, context: grpc.ServicerContext
    ) -> pb.CancelOperationResponse:
        operation = self._backend.operations.cancel(required(request.id, "id"))
        return pb.CancelOperationResponse(operation=operation_to_message(operation))

    def _own_name(self, collection: str) -> str:
        """What an alias means; what names no collection any more may still have operations to tell of."""
        try:
            return collection and self._backend.directory.collection(collection).spec.name
        except CollectionNotFound:
            return collection


def _number_in(token: str, asked: str, collection: str) -> int | None:
    """The operation's number that the page before ended with. Raises InvalidRequest for another's token."""
    if not token:
        return None
    number = last_id_of(token, asked, collection)
    if not (number.isascii() and number.isdigit()):
        raise InvalidRequest("page token is not one that this listing gave", field="page_token")
    return int(number)
