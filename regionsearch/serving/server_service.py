"""ServerService."""

from __future__ import annotations

import grpc

from regionsearch import __version__
from regionsearch.models.precomputed import KIND as PRECOMPUTED
from regionsearch.models.registry import DEFAULT_EMBEDDER, DEFAULT_SEGMENTER, EMBEDDERS, SEGMENTERS
from regionsearch.serving.backend import Backend
from regionsearch.serving.record_uploads import RECORDS_AT_ONCE
from regionsearch.v1 import operations_pb2 as pb
from regionsearch.v1 import operations_pb2_grpc


class ServerServicer(operations_pb2_grpc.ServerServiceServicer):
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetServerInfoResponse:
        limits = self._backend.limits
        return pb.GetServerInfoResponse(
            version=__version__,
            embedders=sorted(EMBEDDERS.keys() - {PRECOMPUTED}),
            segmenters=sorted(SEGMENTERS.keys() - {PRECOMPUTED}),
            default_embedder=DEFAULT_EMBEDDER,
            default_segmenter=DEFAULT_SEGMENTER,
            snapshots=self._backend.snapshots is not None,
            limits=pb.Limits(
                image_megapixels=limits.image_megapixels,
                image_bytes=limits.image_bytes,
                text_characters=limits.text_characters,
                hits=limits.hits,
                regions=limits.regions,
                examples=limits.examples,
                candidates=limits.candidates,
                batch_queries=limits.batch_queries,
                batch_images=limits.batch_images,
                batch_records=RECORDS_AT_ONCE,
                message_bytes=limits.message_bytes,
                concurrent_calls=limits.concurrent_calls,
            ),
        )
