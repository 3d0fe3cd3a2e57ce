"""Snapshots of a collection: written while it is used, verified, and restored under any name."""

from regionsearch.collection.snapshots.creating import create
from regionsearch.collection.snapshots.going_on import Check, Progress
from regionsearch.collection.snapshots.manifest import SnapshotInfo
from regionsearch.collection.snapshots.removing import remove
from regionsearch.collection.snapshots.restoring import check_name, restore
from regionsearch.collection.snapshots.verifying import SnapshotReport, describe, find, verify

__all__ = [
    "Check",
    "Progress",
    "SnapshotInfo",
    "SnapshotReport",
    "check_name",
    "create",
    "describe",
    "find",
    "remove",
    "restore",
    "verify",
]
