"""The folders of a collection's segments: written beside, synced, renamed; removed when nobody needs them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from regionsearch.collection.environment import Environment, says_no_space
from regionsearch.collection.on_disk import sync
from regionsearch.collection.segment_folders import SEGMENTS, segment_folder
from regionsearch.collection.segments.checksums import FileSum, sum_file
from regionsearch.collection.segments.manifest import Manifest
from regionsearch.errors import StorageFull

PARTIAL = ".partial"


class SegmentFiles:
    """directory: the data directory. collection: its number."""

    def __init__(self, directory: Path, collection: int) -> None:
        self.root = segment_folder(directory, collection)

    def folder(self, number: int) -> Path:
        """Of a segment."""
        return self.root / str(number)

    def write(self, number: int, build: Callable[[Path], None]) -> tuple[FileSum, ...]:
        """`build` fills a folder; when this returns, the folder is on disk under the segment's number. When
        it raises, nothing is left. Raises StorageFull."""
        partial = self.root / f"{number}{PARTIAL}"
        shutil.rmtree(partial, ignore_errors=True)
        with self._nothing_left_of(number):
            partial.mkdir(parents=True)
            build(partial)
            return tuple(sum_file(path) for path in sorted(partial.iterdir()))

    def keep(self, number: int, rest: Callable[[], None] = lambda: None) -> None:
        """Syncs what `write` left and gives it its name. rest: called between files; what it raises ends
        that. When anything is raised, nothing is left. Raises StorageFull."""
        partial = self.root / f"{number}{PARTIAL}"
        with self._nothing_left_of(number):
            for path in (*partial.iterdir(), partial):
                rest()
                sync(path)
            partial.rename(self.folder(number))
            for folder in (self.root, self.root.parent, self.root.parent.parent):
                sync(folder)

    @contextlib.contextmanager
    def _nothing_left_of(self, number: int) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            for path in (self.root / f"{number}{PARTIAL}", self.folder(number)):
                shutil.rmtree(path, ignore_errors=True)
            if isinstance(error, (OSError, RuntimeError)) and says_no_space(error):  # FAISS: RuntimeError
                raise StorageFull(f"no space left for index segments in '{self.root}': {error}") from error
            raise

    def remove(self, numbers: Collection[int]) -> None:
        """Of segments that no manifest lists any more. Whoever has them open or mapped keeps what he sees."""
        for number in numbers:
            shutil.rmtree(self.folder(number), ignore_errors=True)
            shutil.rmtree(self.root / f"{number}{PARTIAL}", ignore_errors=True)

    def sweep(self, listed: Collection[int]) -> None:
        """Removes what a crash left: every folder but those of these segments."""
        if not self.root.is_dir():
            return
        kept = {str(number) for number in listed}
        for path in self.root.iterdir():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def sweep_segment_files(environment: Environment) -> None:
    """Removes what a crash left in a data directory that is being opened for writing: of every collection the
    folders of segments that its manifest does not list."""
    root = environment.catalog.parent / SEGMENTS
    if not root.is_dir():
        return
    for folder in root.iterdir():
        if folder.name.isdecimal():
            number = int(folder.name)
            with environment.transaction() as transaction:
                listed = [row.number for row in Manifest(environment, number).segments(transaction)]
            SegmentFiles(environment.catalog.parent, number).sweep(listed)
            if not listed:
                folder.rmdir()
