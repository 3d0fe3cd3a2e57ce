"""The collection as a client sees it: photos with their entities, and questions answered."""

from __future__ import annotations

import os
import time
import unicodedata
from pathlib import Path

from regionsearch.client import Client
from regionsearch.demonstration.answers import Answer, Found, Part
from regionsearch.demonstration.questions import IndexedPhoto, Question, Thing
from regionsearch.demonstration.wording import PART_MEANING
from regionsearch.errors import InvalidRequest
from regionsearch.images import Image, decode_image, load_image


class CollectionReader:
    """Asks a server about one collection; shows photos from the folder that was indexed."""

    def __init__(self, client: Client, collection: str, folder: Path, max_megapixels: float) -> None:
        self._client = client
        self._collection = collection
        self._files = _files_by_id(folder)
        self._max_megapixels = max_megapixels
        self._loaded: dict[str, Image] = {}

    def photos(self, most: int) -> list[IndexedPhoto]:
        """Up to `most` photos of the folder, evenly spread over the collection, with their entities.

        Raises InvalidRequest when none of the folder's photos is in the collection.
        """
        listed = (summary.image_id for summary in self._client.list_images(self._collection))
        ids = [image_id for image_id in listed if image_id in self._files]
        if not ids:
            raise InvalidRequest("none of the folder's photos could be indexed")
        chosen = [ids[place * len(ids) // most] for place in range(most)] if len(ids) > most else ids
        return [self._photo(image_id) for image_id in chosen]

    def ask(self, question: Question, limit: int) -> Answer:
        """Sends one question, and reads the photos of its hits."""
        regions = () if question.region is None else (question.region, *question.further)
        started = time.perf_counter()
        answer = self._client.search(
            self._collection,
            image=question.picture.pixels
            if question.picture is not None and question.image_id is None
            else None,
            image_id=question.image_id,
            entity=question.entity,
            regions=regions,
            text=question.text,
            limit=limit,
        )
        milliseconds = 1000 * (time.perf_counter() - started)
        found = []
        for hit in answer.hits:
            if hit.entity.mask is None:
                raise InvalidRequest(f"the answer holds no mask for {hit.image_id!r}")
            found.append(
                Found(
                    image_id=hit.image_id,
                    photo=self._image(hit.image_id),
                    score=hit.score,
                    parts=tuple(
                        Part(name, hit.parts[name].raw, hit.parts[name].standardised, hit.parts[name].weight)
                        for name in PART_MEANING
                        if name in hit.parts and hit.parts[name].weight > 0
                    ),
                    index=hit.entity.index,
                    mask=hit.entity.mask,
                    box=hit.entity.box,
                    area=hit.entity.area,
                    others=tuple(
                        match.entity.mask for match in hit.matches[1:] if match.entity.mask is not None
                    ),
                )
            )
        used = [region.mask for region in answer.regions if region.mask is not None]
        return Answer(question, tuple(found), used[0] if used else None, milliseconds)

    def _photo(self, image_id: str) -> IndexedPhoto:
        stored = self._client.get_image(self._collection, image_id, entities=True, masks=True)
        things = tuple(
            Thing(image_id, entity.index, entity.mask, entity.box, entity.area, entity.objectness)
            for entity in stored.entities
            if entity.mask is not None
        )
        return IndexedPhoto(image_id, self._image(image_id), things)

    def _image(self, image_id: str) -> Image:
        """From its file; a photo of an earlier folder has only what the collection keeps of it."""
        if image_id not in self._loaded:
            if image_id in self._files:
                image = load_image(self._files[image_id], max_megapixels=self._max_megapixels)
            else:
                stored = self._client.get_image(self._collection, image_id, pixels=True)
                if stored.pixels is None:
                    raise InvalidRequest(f"the collection keeps no pixels of {image_id!r} to show it")
                image = decode_image(stored.pixels, image_id)
            self._loaded[image_id] = image
        return self._loaded[image_id]


def _files_by_id(folder: Path) -> dict[str, Path]:
    """Every file below the folder by the id that indexing gives it: its POSIX path, NFC."""
    found = {}
    for below, _, names in os.walk(folder):
        for name in names:
            path = Path(below) / name
            found[unicodedata.normalize("NFC", path.relative_to(folder).as_posix())] = path
    return found
