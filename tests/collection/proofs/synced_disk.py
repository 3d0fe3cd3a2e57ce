"""What a disk would hold that lost everything that was not synced, from the log of synced_writes.c.

The strictest reading of POSIX: a file's bytes are there once it was synced, a name is there once its
folder was synced after the name was given, and nothing else is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = struct.Struct("<cQQQ")


@dataclass(frozen=True, slots=True)
class Event:
    """kind: as synced_writes.c lists them. content: written, said or listed."""

    kind: str
    inode: int
    offset: int
    content: bytes


def read_events(log: Path) -> Iterator[Event]:
    """In the order in which they happened. A last one that the kill cut short is left out."""
    data = log.read_bytes()
    at = 0
    while at + _HEAD.size <= len(data):
        kind, inode, offset, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if at + length > len(data):
            return
        yield Event(kind.decode(), inode, offset, data[at : at + length])
        at += length


@dataclass
class SyncedDisk:
    """files: content by inode. folders: by inode the names in it, as (inode, is a folder)."""

    files: dict[int, bytearray] = field(default_factory=dict)
    folders: dict[int, dict[str, tuple[int, bool]]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    _waiting: dict[int, list[Event]] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        if event.kind in "WT":
            self._waiting.setdefault(event.inode, []).append(event)
        elif event.kind == "D":
            self._write(event)
        elif event.kind == "S":
            for waiting in self._waiting.pop(event.inode, []):
                self._write(waiting)
        elif event.kind == "F":
            self.files[event.inode] = bytearray(event.content)
        elif event.kind == "L":
            self.folders[event.inode] = dict(map(_entry, event.content.decode().splitlines()))
        elif event.kind == "A":
            self.said += event.content.decode().splitlines()
        else:
            raise ValueError(f"unknown event {event.kind!r}")

    def _write(self, event: Event) -> None:
        content = self.files.setdefault(event.inode, bytearray())
        end = event.offset + len(event.content)
        if event.kind == "T":
            del content[event.offset :]
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        if event.kind != "T":
            content[event.offset : end] = event.content

    def write_out(self, inode: int, destination: Path) -> None:
        """Makes the folder of this inode, and all that is in it, at `destination`, which must not exist."""
        destination.mkdir()
        for name, (each, is_folder) in self.folders.get(inode, {}).items():
            if is_folder:
                self.write_out(each, destination / name)
            else:
                (destination / name).write_bytes(self.files.get(each, b""))


def _entry(line: str) -> tuple[str, tuple[int, bool]]:
    inode, kind, name = line.split(" ", 2)
    return name, (int(inode), kind == "d")
