"""The client of a RegionSearch server, sync and async, and what it answers."""

from regionsearch.client.answers import (
    Answer,
    CollectionInfo,
    DeleteReport,
    Entity,
    Hit,
    ImageSummary,
    ModelFingerprint,
    PartScore,
    RerankScore,
    ServerInfo,
    ServerLimits,
    StoredImage,
    StreamReport,
    UpsertedImage,
    UpsertFailure,
    UpsertReport,
    UsedRegion,
)
from regionsearch.client.asynchronous import AsyncClient
from regionsearch.client.blocking import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "CollectionInfo",
    "DeleteReport",
    "Entity",
    "Hit",
    "ImageSummary",
    "ModelFingerprint",
    "PartScore",
    "RerankScore",
    "ServerInfo",
    "ServerLimits",
    "StoredImage",
    "StreamReport",
    "UpsertFailure",
    "UpsertReport",
    "UpsertedImage",
    "UsedRegion",
]
