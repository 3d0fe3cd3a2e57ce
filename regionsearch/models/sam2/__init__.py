"""SAM 2: automatic and prompted masks, and the image features that VIRTUE shares."""

from __future__ import annotations

from regionsearch.models.sam2.image_features import SamImageFeatures, encode_pixels, source_of
from regionsearch.models.sam2.loading import LoadedSam2, load_sam2
from regionsearch.models.sam2.segmenter import load_segmenter

__all__ = ["LoadedSam2", "SamImageFeatures", "encode_pixels", "load_sam2", "load_segmenter", "source_of"]
