"""What the frozen embedder says of pictures and captions: computed once, kept on disk, learnt from often."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regionsearch.entities import Entities
from regionsearch.errors import InvalidRegion, ModelUnavailable
from regionsearch.images import load_image
from regionsearch.models.embedder import Embedder
from regionsearch.regions import Mask
from regionsearch.training.connector.caption_data import CaptionedPicture
from regionsearch.training.training_state import make_folder, not_written

PICTURES_A_BLOCK = 32
TEXTS_A_BLOCK = 1024

Progress = Callable[[str, int, int], None]
"""(what is done, how many are, of how many)."""


class ReadingStoppedError(Exception):
    """The wish to stop came while vectors were computed; those that are kept are not computed again."""


@dataclass(frozen=True, eq=False)
class CaptionedVectors:
    """The embedder's unit vectors, float32.

    pixels: (n, d), one an example: a region or a whole picture. pictures: (n,) which picture it is of.
    texts: (m, d). owners: (m,) the example that each caption is of; every example has one.
    """

    pixels: NDArray[np.float32]
    pictures: NDArray[np.int64]
    texts: NDArray[np.float32]
    owners: NDArray[np.int64]

    def of_pictures(self, chosen: NDArray[np.int64]) -> CaptionedVectors:
        """The examples of these pictures alone, numbered anew in their order."""
        examples = np.flatnonzero(np.isin(self.pictures, chosen))
        numbers = np.full(len(self.pixels), -1)
        numbers[examples] = np.arange(len(examples))
        texts = np.flatnonzero(numbers[self.owners] >= 0)
        return CaptionedVectors(
            self.pixels[examples], self.pictures[examples], self.texts[texts], numbers[self.owners[texts]]
        )

    def with_pixels(self, pixels: NDArray[np.float32]) -> CaptionedVectors:
        """The same examples with other vectors, (n, d)."""
        return replace(self, pixels=pixels)


def frozen_vectors(
    pictures: Sequence[CaptionedPicture],
    embedder: Embedder,
    cache: Path,
    progress: Progress,
    stopping: Callable[[], bool] = lambda: False,
) -> CaptionedVectors:
    """Blocks of vectors are kept in `cache` under a name made of the embedder's fingerprint and of what they
    are of, so that a run which was stopped, or another one on the same pictures, computes none twice.
    stopping: asked after every block; ReadingStoppedError is raised when it says so.

    Raises InvalidImage for a picture that cannot be read, InvalidRegion for a box outside its picture.
    """
    make_folder(cache)
    identity = repr(astuple(embedder.info.fingerprint))
    pixels = []
    for start in range(0, len(pictures), PICTURES_A_BLOCK):
        block = pictures[start : start + PICTURES_A_BLOCK]
        key = _key(identity, [_described(picture) for picture in block])
        pixels.append(_kept(cache / key, partial(_embed_pictures, block, embedder)))
        progress("pictures read", start + len(block), len(pictures))
        if stopping():
            raise ReadingStoppedError
    captions = [text for picture in pictures for region in picture.regions for text in region.captions]
    texts = []
    for start in range(0, len(captions), TEXTS_A_BLOCK):
        words = captions[start : start + TEXTS_A_BLOCK]
        texts.append(_kept(cache / _key(identity, words), partial(embedder.embed_texts, words)))
        progress("captions read", start + len(words), len(captions))
        if stopping():
            raise ReadingStoppedError
    regions = [(place, region) for place, picture in enumerate(pictures) for region in picture.regions]
    return CaptionedVectors(
        pixels=np.concatenate(pixels),
        pictures=np.array([place for place, _ in regions], dtype=np.int64),
        texts=np.concatenate(texts),
        owners=np.repeat(np.arange(len(regions)), [len(region.captions) for _, region in regions]),
    )


def _embed_pictures(pictures: Sequence[CaptionedPicture], embedder: Embedder) -> NDArray[np.float32]:
    """(examples, d), in the order of the pictures' regions."""
    rows: list[NDArray[np.float32]] = []
    for picture in pictures:
        image = load_image(picture.path)
        masks = []
        for region in picture.regions:
            if region.box is None:
                continue
            try:
                clipped = region.box.clip(image.height, image.width)
                masks.append(Mask.from_box(clipped, image.height, image.width))
            except InvalidRegion as error:
                raise InvalidRegion(f"{picture.path}: {error.message}", field="annotations") from error
        if masks:
            entities = Entities.from_masks(masks, np.zeros(len(masks), dtype=np.float32))
        else:
            entities = Entities.whole_frame(image.height, image.width)
        (vectors,) = embedder.embed_images([image], [entities])
        boxes = iter(vectors.entities)
        rows += [vectors.image if region.box is None else next(boxes) for region in picture.regions]
    return np.stack(rows)


def _described(picture: CaptionedPicture) -> list[object]:
    """What tells a picture's regions from others; a file that is replaced is another one."""
    status = picture.path.stat()
    boxes = [None if region.box is None else region.box.as_tuple() for region in picture.regions]
    return [str(picture.path.resolve()), status.st_size, status.st_mtime_ns, boxes]


def _key(identity: str, items: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps([identity, items]).encode()).hexdigest()[:32] + ".npy"


def _kept(file: Path, compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    if file.exists():
        try:
            known: NDArray[np.float32] = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ModelUnavailable(
                f"{file} cannot be read: {error}; without it, its vectors are computed again"
            ) from error
        return known
    computed = compute()
    unfinished = file.with_suffix(".unfinished")
    with not_written(file):
        with unfinished.open("wb") as stream:
            np.save(stream, computed)
            stream.flush()
            # Without it, a name could outlive its content when the machine goes down.
            os.fsync(stream.fileno())
        unfinished.replace(file)
    return computed
