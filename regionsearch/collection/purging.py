"""Removes images for good: from the collection, from snapshots, and from what deletion leaves in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regionsearch.collection.data_directory import DataDirectory
from regionsearch.collection.scrubbing import READERS_SECONDS, mark_pending, scrub
from regionsearch.collection.snapshots.going_on import Check, Progress
from regionsearch.collection.snapshots.rewriting import without_images
from regionsearch.collection.snapshots.verifying import describe
from regionsearch.collection.steps import reached
from regionsearch.collection.unfinished_snapshots import noted
from regionsearch.collection.validation import check_image_id

_COMPACTED, _REWRITTEN = 0.4, 0.9
"""Shares of the work that are done when index segments, and then snapshots, hold nothing of the images."""


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """deleted: images that the collection had. rewritten: snapshots that had some of them, or rows of images
    that were deleted before. missing: ids that
    neither had. scrubbed_bytes: of deleted rows, of any image, that lay in the catalog's file and are zeros
    now. complete: whether the files hold nothing of the images any more. notes: what hindered it, and what
    to do.
    """

    deleted: int
    rewritten: tuple[Path, ...]
    missing: tuple[str, ...]
    scrubbed_bytes: int
    complete: bool
    notes: tuple[str, ...]


def purge(
    directory: DataDirectory,
    collection: str,
    image_ids: Sequence[str],
    *,
    snapshots: Sequence[Path] = (),
    progress: Progress | None = None,
    check: Check | None = None,
    readers_seconds: float = READERS_SECONDS,
) -> PurgeReport:
    """Deletes the images; rewrites index segments that hold rows of deleted images, and the snapshots; then
    overwrites what LMDB left of deleted rows in its file. Can be repeated, after an interruption too: ids
    that the collection has no more are still looked for in the snapshots.

    readers_seconds: how long readers of an older state of the catalog, such as an export or a snapshot under
    way, are waited for; when they go on, the report says that it is not complete.
    Not reached: copies that others made (backups, snapshots not named, what clients were sent), and what the
    file system and the disk keep of freed blocks.

    Raises CollectionNotFound, SnapshotNotFound, InvalidRecord (an id), DataLoss, Cancelled, StorageFull,
    ReadOnly.
    """
    directory.writing()
    for image_id in image_ids:
        check_image_id(image_id)
    for path in snapshots:
        describe(Path(path))
    found = directory.collection(collection)
    known = {image_id for image_id in image_ids if found.contains(image_id)}
    mark_pending(directory.environment)
    deleted = found.delete(list(dict.fromkeys(image_ids)))
    reached("purge: image deleted")
    found.compact(progress=_part(progress, 0.0, _COMPACTED), check=check, merge=False)
    rewritten = []
    for place, path in enumerate(map(Path, snapshots)):
        begin, end = (
            _COMPACTED + (_REWRITTEN - _COMPACTED) * each / len(snapshots) for each in (place, place + 1)
        )
        with noted(directory.environment, path.resolve()):
            held, is_rewritten = without_images(
                path, image_ids, progress=_part(progress, begin, end), check=check
            )
        if is_rewritten:
            rewritten.append(path)
        known.update(held)
    reached("purge: snapshots rewritten")
    scrubbed = scrub(directory.environment, check=check, readers_seconds=readers_seconds)
    reached("purge: scrubbed")
    notes = []
    if scrubbed is None:
        notes.append(
            "a reader (an export, a snapshot under way, another process) still sees an older state of the "
            "catalog, whose freed pages could not be overwritten: purge again when it has ended"
        )
    if progress is not None:
        progress(1.0)
    return PurgeReport(
        deleted=deleted,
        rewritten=tuple(rewritten),
        missing=tuple(image_id for image_id in dict.fromkeys(image_ids) if image_id not in known),
        scrubbed_bytes=scrubbed or 0,
        complete=scrubbed is not None,
        notes=tuple(notes),
    )


def _part(progress: Progress | None, begin: float, end: float) -> Progress | None:
    if progress is None:
        return None
    return lambda share: progress(begin + (end - begin) * share)
