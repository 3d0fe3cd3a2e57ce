"""`regionsearch serve`: answers over gRPC until it is told to stop."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from dataclasses import fields
from pathlib import Path

from regionsearch.cli.arguments import add_runtime_options, runtime_from
from regionsearch.config import Limits
from regionsearch.errors import InvalidRequest

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_GRACE_SECONDS = 10.0
LARGEST_COUNT = 2**31 - 1
"""gRPC's own options hold no larger number, nor do all fields that tell clients the limits."""
LOG_LEVELS = ("debug", "info", "warning", "error")

_LIMIT_OPTIONS = {
    "image_megapixels": ("--max-megapixels", "MP", "megapixels of one picture, before it is decoded"),
    "image_bytes": ("--max-image-bytes", "BYTES", "bytes of one encoded picture"),
    "text_characters": ("--max-text-characters", "N", "characters of one instruction"),
    "hits": ("--max-hits", "N", "hits in one answer"),
    "regions": ("--max-regions", "N", "regions of one query"),
    "examples": ("--max-examples", "N", "liked, and disliked, examples of one query"),
    "candidates": ("--max-candidates", "N", "images that a query may ask of each arm of the first phase"),
    "batch_queries": ("--max-batch-queries", "N", "queries in one BatchSearch call"),
    "batch_images": ("--max-batch-images", "N", "pictures in one UpsertImages call"),
    "message_bytes": ("--max-message-bytes", "BYTES", "bytes of one gRPC message, either way"),
    "concurrent_calls": ("--max-concurrent-calls", "N", "calls answered at once"),
}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "serve",
        allow_abbrev=False,
        help="serve the collections of a data directory over gRPC",
        description="Serves the collections of a data directory over gRPC. Prints the address that it "
        "listens on as the first line on stdout once it answers; SIGTERM or Ctrl-C ends it in order. "
        "There is no authentication yet: listen on an address that only friends can reach.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data directory")
    parser.add_argument(
        "--address",
        type=_address,
        default=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help=f"where to listen; port 0 takes any free one (default {DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--threads",
        type=_count,
        metavar="N",
        help="cores that a model may use in one call (default: its choice)",
    )
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=DEFAULT_GRACE_SECONDS,
        metavar="SECONDS",
        help=f"how long calls in flight may finish at the end (default {DEFAULT_GRACE_SECONDS:g})",
    )
    parser.add_argument(
        "--log-level", choices=LOG_LEVELS, default="info", help="what goes to stderr (default info)"
    )
    add_runtime_options(parser)
    parser.add_argument(
        "--allow-model",
        action="append",
        default=[],
        metavar="REFERENCE",
        help="a model with weights of its own that clients may make collections with, besides those of "
        "the collections that are there; can be repeated",
    )
    parser.add_argument(
        "--snapshots",
        type=Path,
        metavar="DIR",
        help="the folder in which clients may have snapshots written, by name (default: they may not)",
    )
    parser.add_argument(
        "--scoring",
        type=Path,
        metavar="FILE",
        help="weights and calibration of `regionsearch fit` (default: those of the package)",
    )
    defaults = Limits()
    for field in fields(Limits):
        option, metavar, what = _LIMIT_OPTIONS[field.name]
        default = getattr(defaults, field.name)
        parser.add_argument(
            option,
            dest=field.name,
            type=_megapixels if field.name == "image_megapixels" else _count,
            default=default,
            metavar=metavar,
            help=f"limit: {what} (default {default:g})"
            if isinstance(default, float)
            else f"limit: {what} (default {default})",
        )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT; 0 when it ended in order."""
    # gRPC's own lines about a connection that closed, or a port in use, say nothing that ours do not.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from regionsearch.collection import DataDirectory
    from regionsearch.models.registry import ModelRegistry
    from regionsearch.search.engine import SearchEngine
    from regionsearch.search.scoring import load_scoring
    from regionsearch.serving.address import Address
    from regionsearch.serving.backend import Backend
    from regionsearch.serving.server import Server

    _log_to_stderr(arguments.log_level)
    log = logging.getLogger("regionsearch.serving")
    limits = Limits(**{field.name: getattr(arguments, field.name) for field in fields(Limits)})
    scoring = None if arguments.scoring is None else load_scoring(arguments.scoring)
    told_to_stop = StopSignal()
    # The port first: when it is taken, nothing has been opened or created yet.
    server = Server(Address.parse(arguments.address), limits)
    with DataDirectory(arguments.data, "write") as directory:
        models = ModelRegistry(runtime=runtime_from(arguments, arguments.threads))
        engine = SearchEngine(models, limits, scoring=scoring)
        backend = Backend(
            directory, models, engine, limits, frozenset(arguments.allow_model), arguments.snapshots
        )
        try:
            backend.load()
            server.start(backend)
            print(server.address, flush=True)
            log.info("event=serving address=%s data=%s", server.address, arguments.data)
            told_to_stop.wait()
            log.info("event=stopping grace_seconds=%g", arguments.grace)
        finally:
            server.stop(arguments.grace)
    log.info("event=stopped")
    return 0


class StopSignal:
    """Remembers from its construction on whether SIGTERM or SIGINT came.

    The system may hand a signal to any thread, and Python's handlers run in the main thread alone: one
    that waits on a lock meanwhile would never hear of it. So the signal's byte wakes a socket.
    """

    def __init__(self) -> None:
        self._arrivals, wake = socket.socketpair()
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._wake = wake
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def wait(self) -> None:
        """Returns at once if one came before."""
        self._arrivals.recv(1)


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _OneLine("time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")
    )
    # What other packages say of themselves matters when it is a warning.
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("regionsearch").setLevel(level.upper())


class _OneLine(logging.Formatter):
    """One record, one line, tracebacks too: what reads logs by lines loses nothing."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\\n")


def _address(text: str) -> str:
    from regionsearch.serving.address import Address

    try:
        return str(Address.parse(text))
    except InvalidRequest as error:
        raise argparse.ArgumentTypeError(error.message) from error


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= LARGEST_COUNT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0, at most {LARGEST_COUNT}")
    return int(text)


def _megapixels(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
