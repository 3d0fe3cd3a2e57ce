"""Where the computing of an indexing run happens."""

from indexer.engines.engine import BatchResult, IndexingEngine, PipelineSettings
from indexer.engines.local import InProcess, Processes, build_pipeline

__all__ = [
    "BatchResult",
    "InProcess",
    "IndexingEngine",
    "PipelineSettings",
    "Processes",
    "build_pipeline",
]
