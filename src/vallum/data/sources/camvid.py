"""CamVid in its three usual layouts."""

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


# The colours of the 32 classes that were painted, by which of the 11 they are part of.
_PAINTED: dict[str, tuple[tuple[int, int, int], ...]] = {
    "sky": ((128, 128, 128),),
    "building": ((128, 0, 0), (192, 0, 128), (0, 128, 64), (64, 0, 64), (64, 192, 0)),  # and arch, bridge, tunnel, wall
    "pole": ((192, 192, 128), (0, 0, 64)),  # and traffic cone
    "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),  # and markings
    "pavement": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),  # and parking block, shoulder
    "tree": ((128, 128, 0), (192, 192, 0)),
    "sign/symbol": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),  # and text, traffic light
    "fence": ((64, 64, 128),),
    "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),  # and lorry, bus, train
    "pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),  # and child, pram, animal
    "bicyclist": ((0, 128, 192), (192, 0, 192)),  # and motorcycle
}
_COLOURS = {colour: CLASSES.index(name) for name, painted in _PAINTED.items() for colour in painted} | {
    (0, 0, 0): IGNORE
}


@DATA_SOURCES.register("camvid", split="train, val or test")
def camvid(source: Source, request: Request) -> Data:
    """CamVid, 11 classes, images/<split> with masks/<split>, or <split> with <split>annot: camvid:PATH?split=test

    Or as first published, 701_StillsRaw_full/ with masks in colours in LabeledApproved_full/; the names of a split's
    pictures are then read from <split>.txt, and without it all are taken.
    """
    refuse_unknown(source, *DATA_SOURCES.options["camvid"])
    split = source.options.get("split", "test")
    storage = open_storage(source.rest)
    listing = storage.listing()
    for pictures, targets in ((f"images/{split}/", f"masks/{split}/"), (f"{split}/", f"{split}annot/")):
        names, masks = listing.pairs(pictures, targets)
        if names:
            problems = listing.problems_in(pictures, targets)
            return MaskedFiles(storage, names, masks, CLASSES, problems, request, _VOID)
    names = [name for name in listing.inside("701_StillsRaw_full/") if not name.endswith("_L.png")]
    listed = storage.lines(f"{split}.txt")
    if listed is not None:
        wanted = {line.split()[0].rpartition("/")[2].rpartition(".")[0] or line for line in listed}
        names = [name for name in names if name.rpartition("/")[2].rpartition(".")[0] in wanted]
    if names:
        labelled = set(listing.inside("LabeledApproved_full/"))
        painted = [f"LabeledApproved_full/{name.rpartition('/')[2].rpartition('.')[0]}_L.png" for name in names]
        problems = listing.problems_in("701_StillsRaw_full/", "LabeledApproved_full/")
        masks = [mask if mask in labelled else None for mask in painted]
        return MaskedFiles(storage, names, masks, CLASSES, problems, request, colours=_COLOURS)
    raise UserError(
        f"{storage.path} holds no CamVid pictures of the split {split!r}",
        f"images/{split}/ with masks/{split}/, or {split}/ with {split}annot/, or 701_StillsRaw_full/",
        "check the path, and the split: train, val or test",
    )
