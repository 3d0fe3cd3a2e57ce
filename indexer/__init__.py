"""Offline bulk jobs: sources, engines, the run itself."""

from indexer.job import IndexJob, Progress
from indexer.report import IndexReport

__all__ = ["IndexJob", "IndexReport", "Progress"]
