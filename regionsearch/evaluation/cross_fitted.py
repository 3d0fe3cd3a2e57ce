"""`regionsearch eval` on the photos that the compact segmenter's weights were fitted on, without their help.

    python -m regionsearch.evaluation.cross_fitted coco|segmentation --images DIR --annotations FILE
        [--captions FILE] --folds DIR [--scoring FILE] [--json]

`--folds` is the folder that `python -m regionsearch.training.fit_segmenter --evaluate` leaves beside its
weights: `fold0.npz`, `fold1.npz`, … and, in `fold0.txt`, …, the names of the photos that were kept from each.
Every photo is cut by the weights that have not seen it, as a photo of the collection and as a question.
`--images`, `--annotations` and `--captions` may be given several times, in pairs; a folder that no fold names
is cut by the shipped weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from regionsearch.entities import Entities
from regionsearch.errors import InvalidImage, InvalidRequest, RegionSearchError
from regionsearch.evaluation.coco_annotations import AnnotatedImage, read_folders
from regionsearch.evaluation.coco_evaluation import evaluate
from regionsearch.evaluation.photo_index import PhotoIndex
from regionsearch.evaluation.report_tables import coco_tables, segmentation_table
from regionsearch.evaluation.segmentation_evaluation import evaluate_segmentation
from regionsearch.images import Image, load_image
from regionsearch.models.compact.loading import load_segmenter
from regionsearch.models.compact.network import CompactNetwork
from regionsearch.models.compact.segmenter import CompactSegmenter
from regionsearch.models.features import Backbone, DenseFeatures
from regionsearch.models.registry import DEFAULT_EMBEDDER, ModelRegistry
from regionsearch.models.segmenter import DEFAULT_ENTITY_LIMIT, Segmenter, SegmenterInfo
from regionsearch.regions import Mask, RegionPrompt
from regionsearch.search.scoring import load_scoring

SEGMENTER = "compact"


class CrossFittedSegmenter:
    """Several fittings of one segmenter: each photo is cut by the one that is named for its pixels.

    fittings: all of one backbone. by_photo: `pixels_digest` of a photo to its place in `fittings`.
    A photo that is not named is refused with InvalidRequest: nobody knows which fitting has seen it.
    """

    def __init__(self, fittings: Sequence[Segmenter], by_photo: Mapping[str, int]) -> None:
        self._fittings = fittings
        self._by_photo = by_photo
        own = [fitting.info.fingerprint for fitting in fittings]
        weights = hashlib.sha256("\n".join(one.weights for one in own).encode()).hexdigest()
        self._info = SegmenterInfo(replace(own[0], weights=weights))

    @property
    def info(self) -> SegmenterInfo:
        return self._info

    @property
    def backbone(self) -> Backbone | None:
        return self._fittings[0].backbone

    def propose(
        self,
        images: Sequence[Image],
        features: Sequence[DenseFeatures] | None = None,
        limit: int = DEFAULT_ENTITY_LIMIT,
    ) -> list[Entities]:
        found = []
        for number, image in enumerate(images):
            own = None if features is None else [features[number]]
            found += self._fitting(image).propose([image], own, limit)
        return found

    def prompt(
        self,
        image: Image,
        region: RegionPrompt,
        features: DenseFeatures | None = None,
        *,
        refine: bool = False,
    ) -> Mask:
        return self._fitting(image).prompt(image, region, features, refine=refine)

    def _fitting(self, image: Image) -> Segmenter:
        digest = pixels_digest(image)
        if digest not in self._by_photo:
            raise InvalidRequest("a photo that no fold was kept from cannot be cut by cross-fitted weights")
        return self._fittings[self._by_photo[digest]]


class CrossFittedModels(ModelRegistry):
    """The registered models, with a cross-fitted segmenter in the place of the compact one."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self._cross_fitted = segmenter

    def segmenter(self, name: str) -> Segmenter:
        return self._cross_fitted if name == SEGMENTER else super().segmenter(name)


def pixels_digest(image: Image) -> str:
    """sha256 (hex) of an image's size and pixels: the same for a photo wherever it was decoded."""
    digest = hashlib.sha256(f"{image.height} × {image.width}\n".encode())
    digest.update(image.pixels.data)
    return digest.hexdigest()


def cross_fitted_segmenter(photos: Iterable[AnnotatedImage], folds: Path) -> CrossFittedSegmenter:
    """The segmenter for these photos. The shipped weights stand for folders that no fold names.

    Raises InvalidRequest when `folds` holds no folds, no photo is named by any, a folder's photos are named
    in part, or a photo was kept from one fold while its copy was kept from another; ModelUnavailable for
    weights that cannot be read.
    """
    shipped = load_segmenter()
    network = cast(CompactNetwork, shipped.backbone)
    files, fold_of = read_folds(folds)
    fittings = [*(CompactSegmenter(network, file) for file in files), shipped]
    by_photo: dict[str, int] = {}
    for image, fold in _dealt(photos, fold_of, shipped=len(files)):
        try:
            digest = pixels_digest(load_image(image.path))
        except InvalidImage:  # The evaluation leaves it out and names it.
            continue
        if by_photo.setdefault(digest, fold) != fold:
            raise InvalidRequest(
                f"{image.path} is a copy of a photo of another fold: the weights of both have seen it"
            )
    return CrossFittedSegmenter(fittings, by_photo)


def read_folds(folder: Path) -> tuple[list[Path], dict[str, int]]:
    """The weights of each fold, and by file name the fold that each photo was kept from."""
    files = sorted(folder.glob("fold*.npz"))
    if not files:
        raise InvalidRequest(f"there are no weights fold*.npz in {folder}", field="folds")
    fold_of: dict[str, int] = {}
    for number, file in enumerate(files):
        names = file.with_suffix(".txt")
        if not names.is_file():
            raise InvalidRequest(f"{names} is missing: the photos kept from {file.name}", field="folds")
        for name in names.read_text(encoding="utf-8").splitlines():
            if fold_of.setdefault(name, number) != number:
                raise InvalidRequest(f"{folder}: {name!r} is kept from two folds", field="folds")
    return files, fold_of


def _dealt(
    photos: Iterable[AnnotatedImage], fold_of: Mapping[str, int], *, shipped: int
) -> list[tuple[AnnotatedImage, int]]:
    """Each photo with the number of its weights, `shipped` in folders that no fold names."""
    folders: dict[Path, list[AnnotatedImage]] = defaultdict(list)
    for image in photos:
        folders[image.path.parent].append(image)
    dealt = []
    for folder, images in folders.items():
        lacking = [image for image in images if image.path.name not in fold_of]
        if lacking and len(lacking) < len(images):
            raise InvalidRequest(
                f"{len(lacking)} of {len(images)} photos in {folder} were kept from no fold, first "
                f"{lacking[0].path.name!r}",
                field="folds",
            )
        dealt += [(image, fold_of.get(image.path.name, shipped)) for image in images]
    if all(number == shipped for _, number in dealt):
        raise InvalidRequest("the folds name none of the photos", field="folds")
    return dealt


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except RegionSearchError as error:
        print(f"cross_fitted: {error}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    photos = read_folders(options.images, options.annotations, options.captions)
    segmenter = cross_fitted_segmenter(photos.images, options.folds)
    if options.kind == "segmentation":
        report = evaluate_segmentation(photos, segmenter, _tell)
        table = segmentation_table(report)
    else:
        models = CrossFittedModels(segmenter)
        scoring = None if options.scoring is None else load_scoring(options.scoring)
        with PhotoIndex(photos, models, DEFAULT_EMBEDDER, SEGMENTER, _tell, scoring) as index:
            report = evaluate(index, captions=bool(options.captions), progress=_tell)
        table = coco_tables(report)
    print(json.dumps(report, indent=2, allow_nan=False) if options.json else table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cross_fitted", description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=("coco", "segmentation"), help="what is judged")
    parser.add_argument("--images", type=Path, action="append", required=True, help="photos")
    parser.add_argument("--annotations", type=Path, action="append", required=True, help="instances.json")
    parser.add_argument("--captions", type=Path, action="append", default=[], help="captions.json")
    parser.add_argument(
        "--folds", type=Path, required=True, help="folder of fold*.npz and fold*.txt, by fit_segmenter"
    )
    parser.add_argument("--scoring", type=Path, help="scoring file that is judged instead of the shipped one")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    return parser


def _tell(what: str, done: int, of: int) -> None:
    if done == 0:
        print(f"{what}: {of}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
