"""Who looks after collections for a command line: a data directory or a server, which answer alike."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from regionsearch.cli.long_work import Check, Progress
from regionsearch.errors import InvalidRequest

DEFAULT_TIMEOUT = 60.0


class Administration(Protocol):
    """Every answer is what `--json` prints; keys that one of both cannot know are left out.

    progress, check: see `long_work`.
    """

    def collections(self) -> list[dict[str, Any]]: ...

    def stats(self, name: str) -> dict[str, Any]: ...

    def count(self, name: str, where: str) -> dict[str, Any]: ...

    def create(self, arguments: argparse.Namespace) -> dict[str, Any]: ...

    def update(
        self, name: str, changes: Mapping[str, Any], progress: Progress, check: Check
    ) -> dict[str, Any]: ...

    def drop(self, name: str, *, aliases: bool) -> dict[str, Any]: ...

    def seal(self, name: str, progress: Progress, check: Check) -> dict[str, Any]: ...

    def compact(self, name: str, progress: Progress, check: Check) -> dict[str, Any]: ...

    def delete(self, name: str, image_ids: Sequence[str]) -> dict[str, Any]: ...

    def delete_matching(self, name: str, where: str, progress: Progress, check: Check) -> dict[str, Any]: ...

    def purge(
        self,
        name: str,
        image_ids: Sequence[str],
        snapshots: Sequence[str],
        progress: Progress,
        check: Check,
    ) -> dict[str, Any]: ...

    def aliases(self) -> dict[str, str]: ...

    def set_alias(self, alias: str, collection: str) -> dict[str, Any]: ...

    def delete_alias(self, alias: str) -> dict[str, Any]: ...

    def create_snapshot(
        self, name: str, snapshot: str, progress: Progress, check: Check
    ) -> dict[str, Any]: ...

    def restore_snapshot(
        self, snapshot: str, name: str, *, replace: bool, progress: Progress, check: Check
    ) -> dict[str, Any]: ...


def add_place_options(parser: argparse.ArgumentParser, *, snapshots: bool = False) -> None:
    """Where the collections are; `administered` reads the values."""
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--data", metavar="DIR", type=Path, help="the data directory")
    what = "a running server, which keeps snapshots by name" if snapshots else "a running server"
    place.add_argument("--address", metavar="HOST:PORT", help=what)
    add_answer_options(parser)


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        help=f"how long to wait for each answer of a server (default: {DEFAULT_TIMEOUT:g})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON alone")


def administered(
    arguments: argparse.Namespace, *, writes: bool = False, makes: bool = False
) -> AbstractContextManager[Administration]:
    """Whoever the command line names. writes: a data directory is opened for writing, which nobody else may
    have; makes: and made when there is none. Raises InvalidRequest."""
    timeout = answer_timeout(arguments)
    if arguments.address is None:
        from regionsearch.cli.local_administration import opened

        return opened(arguments.data, writes=writes, makes=makes)
    from regionsearch.cli.remote_administration import connected

    return connected(arguments.address, timeout)


def answer_timeout(arguments: argparse.Namespace) -> float:
    """Seconds to wait for each answer of a server. Raises InvalidRequest when that was said without one."""
    if arguments.timeout is None:
        return DEFAULT_TIMEOUT
    if arguments.address is None:
        raise InvalidRequest("--timeout is for a server; say --address", field="timeout")
    timeout = float(arguments.timeout)
    if not timeout > 0:
        raise InvalidRequest(f"--timeout is {timeout:g}; it must be above 0", field="timeout")
    return timeout
