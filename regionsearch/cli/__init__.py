"""The command line."""

from regionsearch.cli.main import main

__all__ = ["main"]
