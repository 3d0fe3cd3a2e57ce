"""What is stored: the catalog (LMDB, the truth) and what is derived from it."""

from regionsearch.collection.candidates import Candidate, Candidates
from regionsearch.collection.collection import Collection
from regionsearch.collection.data_directory import DataDirectory
from regionsearch.collection.records import (
    CollectionSpec,
    CollectionStats,
    ImageListing,
    ImageRecord,
    Neighbours,
    UpsertResult,
)

__all__ = [
    "Candidate",
    "Candidates",
    "Collection",
    "CollectionSpec",
    "CollectionStats",
    "DataDirectory",
    "ImageListing",
    "ImageRecord",
    "Neighbours",
    "UpsertResult",
]
