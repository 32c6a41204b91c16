"""The commonest source: the user's own pictures."""

from __future__ import annotations

from collections.abc import Sequence

from vallum.data.data import BrokenImageError, Data
from vallum.data.files import LabelledFiles, MaskedFiles
from vallum.data.request import DATA_SOURCES, Request, refuse_unknown
from vallum.data.storage import Listing, Storage, open_storage, readable
from vallum.errors import UserError, did_you_mean
from vallum.images import Task
from vallum.specs import Source

_LAYOUT = "PATH/<class>/*.png for a classifier, PATH/images/* with PATH/masks/* for a segmenter"

SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}


@DATA_SOURCES.register("folder")
def folder(source: Source, request: Request) -> Data:
    """Your pictures, in class folders or as images/ with masks/, in a folder or a zip: folder:photos, folder:photos.zip

    A class is a folder, however deep its pictures lie. Classes are in the order of `classes.txt` (one name a line) or
    of `classes=`, else sorted, by number where all of them are numbers. A mask's pixels hold the number of their class,
    255 where they are ignored; it has its picture's name, up to the extension.
    """
    refuse_unknown(source)
    storage = open_storage(source.rest)
    listing = storage.listing()
    known = request.classes or ()
    root = _root(listing, known)
    classes = request.classes or tuple(storage.lines(f"{root}classes.txt") or ()) or None
    if request.task is not Task.CLASSIFY and listing.inside(f"{root}images/"):
        if listing.inside(f"{root}masks/"):
            names, masks = listing.pairs(f"{root}images/", f"{root}masks/")
            problems = listing.problems_in(f"{root}images/", f"{root}masks/")
            return MaskedFiles(storage, names, masks, classes, problems, request)
        if request.task is Task.SEGMENT or set(_tops(listing.names, root)) == {"images"}:
            raise UserError(f"{storage.path} has images/ without masks/", _LAYOUT, "add the masks")
    if request.task is Task.SEGMENT:
        raise UserError(f"{storage.path} has no images/ with masks/", _LAYOUT, "move the files so")
    return _class_folders(storage, listing, root, classes, request)


def _class_folders(
    storage: Storage, listing: Listing, root: str, classes: Sequence[str] | None, request: Request
) -> LabelledFiles:
    tops = _tops(listing.names, root)
    problems = dict(listing.problems)
    if "" in tops:
        loose = next(name for name, top in zip(listing.names, tops, strict=True) if not top)
        raise UserError(
            f"{storage.where(loose)} lies in no class folder", _LAYOUT, "move it into the folder of its class"
        )
    if classes is None:
        _refuse_splits(storage, listing, root, sorted(set(tops)))
        # A folder without pictures still counts, so that the labels of the others are what they were.
        folders = {name.removeprefix(root).split("/")[0] for name in listing.folders if name.startswith(root)} - {""}
        order = sorted(folders, key=int) if all(name.isdecimal() for name in folders) else sorted(folders)
        classes = [readable(name) for name in order]
        for name in sorted(folders - set(tops)):
            problems[root + name] = BrokenImageError(
                f"{storage.where(root + name)} holds no pictures",
                "a class folder holds at least one",
                "delete it, or name all the classes: classes=cat,dog",
            )
    numbers = {name: number for number, name in enumerate(classes)}
    labels = []
    for name, top in zip(listing.names, tops, strict=True):
        labels.append(numbers.get(readable(top), -1))
        if labels[-1] < 0:
            problems.setdefault(
                name,
                BrokenImageError(
                    f"{storage.where(name)} lies in {readable(top)}/, which is none of the {len(classes)} classes",
                    did_you_mean(readable(top), classes),
                    "name all the classes, or rename the folder",
                ),
            )
    return LabelledFiles(storage, listing.names, labels, classes, problems, request)


def _refuse_splits(storage: Storage, listing: Listing, root: str, tops: Sequence[str]) -> None:
    """Folders train/ and test/ with class folders inside, which would be taken for two classes."""
    deep = all(name.removeprefix(root).count("/") > 1 for name in listing.names)
    if len(tops) > 1 and deep and {top.lower() for top in tops} <= SPLITS:
        one = next((top for top in tops if "train" not in top.lower()), tops[0])
        raise UserError(
            f"{storage.path} holds {' and '.join(f'{top}/' for top in tops)}, with the class folders inside",
            _LAYOUT,
            f"name one of them, as folder:{storage.where(root + one)}; if these are classes, classes={','.join(tops)}",
        )


def _root(listing: Listing, classes: Sequence[str]) -> str:
    """What lies above the class folders: many a zip holds one folder that holds it all."""
    root = ""
    while listing.names:
        tops = set(_tops(listing.names, root))
        if len(tops) != 1 or "" in tops or "images" in tops or tops & set(classes):
            break
        deeper = f"{root}{tops.pop()}/"
        if "" in _tops(listing.names, deeper):  # pictures right inside: this is a class
            break
        root = deeper
    return root


def _tops(names: Sequence[str], root: str) -> list[str]:
    """The folder below `root` that each picture lies in, "" where it lies in none."""
    return [name.removeprefix(root).partition("/")[0] if "/" in name.removeprefix(root) else "" for name in names]
