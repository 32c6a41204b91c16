"""Cityscapes as its makers lay it out."""

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
    *(
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
    ),
    *("sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # of those classes in labelIds files
TRAIN_IDS = np.full(256, IGNORE)
TRAIN_IDS[list(_IDS)] = range(len(_IDS))


@DATA_SOURCES.register("cityscapes", split="train or val")
def cityscapes(source: Source, request: Request) -> Data:
    """Cityscapes, leftImg8bit/ beside gtFine/, its 19 training classes: cityscapes:PATH?split=val"""
    refuse_unknown(source, *DATA_SOURCES.options["cityscapes"])
    split = source.options.get("split", "val")
    storage = open_storage(source.rest)
    listing = storage.listing()
    names = [name for name in listing.inside(f"leftImg8bit/{split}/") if name.endswith("_leftImg8bit.png")]
    if not names:
        raise UserError(
            f"{storage.path}/leftImg8bit/{split} holds no pictures",
            "leftImg8bit/<split>/<city>/*_leftImg8bit.png, with split train or val",
            "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there",
        )
    targets = set(listing.inside(f"gtFine/{split}/"))
    ready = any(name.endswith("_gtFine_labelTrainIds.png") for name in targets)
    ending = "_gtFine_labelTrainIds.png" if ready else "_gtFine_labelIds.png"
    wanted = ["gtFine" + name.removeprefix("leftImg8bit").removesuffix("_leftImg8bit.png") + ending for name in names]
    masks = [mask if mask in targets else None for mask in wanted]
    problems = listing.problems_in(f"leftImg8bit/{split}/", f"gtFine/{split}/")
    return MaskedFiles(storage, names, masks, CLASSES, problems, request, None if ready else TRAIN_IDS)
