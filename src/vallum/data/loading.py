"""The one door through which images come in."""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vallum.data.data import Data
from vallum.data.objects import from_object
from vallum.data.request import DATA_SOURCES, Request, read_classes, read_on_error, read_size, read_task
from vallum.data.storage import path_exists
from vallum.errors import UserError, did_you_mean
from vallum.specs import Source


def load_data(
    source: Any,
    *,
    task: str | None = None,
    classes: Sequence[str] | int | None = None,
    size: int | str | Sequence[int] | None = None,
    on_error: str = "stop",
) -> Data:
    """Images and labels from `source`: a string, a path, or an object made in Python.

    Strings are "folder:photos", "npz:photos.npz", "torchvision:CIFAR10", "hf:cifar10", "cityscapes:PATH",
    "camvid:PATH", "builtin:signs", or just the path of a folder, a zip or an .npz; options follow, as in
    "folder:photos?size=224&on_error=skip". Objects are a map-style Dataset, a DataLoader (its dataset is taken), a list
    of (image, label), a pair (images, labels) of tensors or arrays, and Data itself.

    `classes` are names in the order of the labels. `size` is 224 or "64x192": a classifier's images are resized until
    they cover it and cropped around the centre, a segmenter's are stretched together with their masks. Pictures have
    three channels (`?channels=1` makes them grey), arrays and tensors those that they have. A broken image raises
    BrokenImageError, or with `on_error="skip"` is left out of its batch and noted in `data.skipped`.

    >>> import torch
    >>> data = load_data((torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 1, 0])), classes=["cat", "dog"])
    >>> len(data), data.classes, data.batch([2]).labels.tolist()
    (4, ('cat', 'dog'), [1])
    """
    request = Request(read_task(task), read_classes(classes), read_size(size), None, read_on_error(on_error))
    if isinstance(source, Data):
        if request.size is not None:
            raise UserError("size= comes too late for data that is loaded already", remedy="say it where it is loaded")
        data = source
        if request.on_error not in ("stop", source.on_error):
            data = copy.copy(source)
            data.on_error = request.on_error
    elif isinstance(source, str | os.PathLike):
        found, request = _parsed(source, request)
        data = DATA_SOURCES[found.scheme](found, request)
        numbered = data.classes == tuple(map(str, range(len(data.classes))))  # said in the spec, nobody counts again
        data.spec = (replace(request, classes=data.classes) if numbered else request).spec(found)
    else:
        data = from_object(source, request)
    return _as_asked(data, request)


def _parsed(text: str | os.PathLike[str], request: Request) -> tuple[Source, Request]:
    """The source that a string names, where a scheme may be missing, and what its options ask."""
    whole = os.fspath(text)
    bare = whole.partition(":")[0] not in DATA_SOURCES and path_exists(whole)  # a ? or a : may be part of a file's name
    source = Source("", whole, {}) if bare else Source.parse(whole)
    if source.scheme and source.scheme not in DATA_SOURCES:
        importlib.import_module("vallum.defences")  # which registers sources of its own: of images with patches on them
    if source.scheme in DATA_SOURCES:
        request, source = request.updated_from(source)
        return source, request
    if source.scheme == "python":
        raise UserError(f"{whole} was an object in Python", "a string cannot make it again", "pass the object itself")
    path = f"{source.scheme}:{source.rest}" if source.scheme else source.rest
    if not path_exists(path):
        if source.scheme:
            raise UserError(
                f"no data source is called {source.scheme!r}", remedy=did_you_mean(source.scheme, DATA_SOURCES)
            )
        raise UserError(
            f"{path or 'the empty string'} does not exist",
            f"a folder, a zip, an .npz file, or a source: {', '.join(f'{name}:...' for name in DATA_SOURCES)}",
            f"you are in {Path.cwd()}",
        )
    scheme = "npz" if path.lower().endswith(".npz") else "folder"
    request, source = request.updated_from(Source(scheme, path, source.options))
    return source, request


def _as_asked(data: Data, request: Request) -> Data:
    """The data under the names that were asked for; an error where it is not what was asked for."""
    if request.task not in (None, data.task):
        raise UserError(f"{data.spec or 'the data'} is there to {data.task}", f"task={request.task} was asked for")
    if request.classes not in (None, data.classes):
        if len(request.classes) != len(data.classes):
            raise UserError(
                f"{len(request.classes)} classes were named",
                f"{data.spec or 'the data'} has {len(data.classes)}",
                "name them all, in the order of the labels",
            )
        data = copy.copy(data)
        data.classes = request.classes
    return data
