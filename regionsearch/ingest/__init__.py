"""One image to one record: decode, segment, embed."""

from regionsearch.ingest.pinning import check_models, collection_spec
from regionsearch.ingest.pipeline import (
    STEPS,
    DecodedBatch,
    EncodedImage,
    Failure,
    Pipeline,
    StepClock,
    decoded_batches,
)
from regionsearch.ingest.upserting import (
    UpsertOutcome,
    WriteTerms,
    copies_for_twins,
    copy_of_known,
    store,
    upsert_images,
)

__all__ = [
    "STEPS",
    "DecodedBatch",
    "EncodedImage",
    "Failure",
    "Pipeline",
    "StepClock",
    "UpsertOutcome",
    "WriteTerms",
    "check_models",
    "collection_spec",
    "copies_for_twins",
    "copy_of_known",
    "decoded_batches",
    "store",
    "upsert_images",
]
