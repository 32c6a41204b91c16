"""CamVid in its two usual layouts."""

from __future__ import annotations

import numpy as np

from vallum.data.data import Data
from vallum.data.files import MaskedFiles
from vallum.data.request import DATA_SOURCES, Request, refuse_unknown
from vallum.data.storage import open_storage
from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.specs import Source

CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign/symbol", "fence", "car", "pedestrian", "bicyclist"),
)
_VOID = np.arange(256)
_VOID[len(CLASSES)] = IGNORE  # SegNet's twelfth value is void


@DATA_SOURCES.register("camvid")
def camvid(source: Source, request: Request) -> Data:
    """CamVid, 11 classes, images/<split> with masks/<split>, or <split> with <split>annot: camvid:PATH?split=test"""
    refuse_unknown(source, "split")
    split = source.options.get("split", "test")
    storage = open_storage(source.rest)
    listing = storage.listing()
    for pictures, targets in ((f"images/{split}/", f"masks/{split}/"), (f"{split}/", f"{split}annot/")):
        names, masks = listing.pairs(pictures, targets)
        if names:
            problems = listing.problems_in(pictures, targets)
            return MaskedFiles(storage, names, masks, CLASSES, problems, request, _VOID)
    raise UserError(
        f"{storage.path} holds no CamVid pictures of the split {split!r}",
        f"images/{split}/ with masks/{split}/, or {split}/ with {split}annot/",
        "check the path, and the split: train, val or test",
    )
