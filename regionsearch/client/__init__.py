"""The client of a RegionSearch server, sync and async, and what it answers."""

from regionsearch.client.answers import (
    Answer,
    CollectionInfo,
    DeleteReport,
    Entity,
    EntityMatch,
    Hit,
    ImageSummary,
    ModelFingerprint,
    PartScore,
    RegionMatch,
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
from regionsearch.client.query import Example, Placement, Query, Region

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "CollectionInfo",
    "DeleteReport",
    "Entity",
    "EntityMatch",
    "Example",
    "Hit",
    "ImageSummary",
    "ModelFingerprint",
    "PartScore",
    "Placement",
    "Query",
    "Region",
    "RegionMatch",
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
