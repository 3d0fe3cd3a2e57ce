"""Where images come from."""

from indexer.sources.folder import FolderScan, SourceImage, scan_folder

__all__ = ["FolderScan", "SourceImage", "scan_folder"]
