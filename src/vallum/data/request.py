"""What is asked of a data set besides where it comes from, and the registry of where it may come from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import quote, unquote

from vallum.data.data import Data
from vallum.errors import UserError
from vallum.images import Task
from vallum.specs import Registry, Source, read_value

DATA_SOURCES: Registry[Data] = Registry("data source")  # functions (source: Source, request: Request) -> Data


@dataclass(frozen=True)
class Request:
    """What holds for every source; a source string says it as options, "folder:photos?size=224&on_error=skip"."""

    task: Task | None = None
    classes: tuple[str, ...] | None = None  # in the order of the labels
    size: tuple[int, int] | None = None  # (H, W)
    channels: Literal[1, 3] | None = None  # None: pictures have 3, arrays what they have
    on_error: Literal["stop", "skip"] = "stop"

    def updated_from(self, source: Source) -> tuple[Request, Source]:
        """With what the source's options say where nothing was said in Python, and the source with the rest of them."""
        said = {name: text for name, text in source.options.items() if name in _READERS}
        rest = {name: text for name, text in source.options.items() if name not in _READERS}
        blank = Request()
        unsaid = [name for name in said if getattr(self, name) == getattr(blank, name)]
        changes: dict[str, Any] = {name: _READERS[name](said[name]) for name in unsaid}
        return replace(self, **changes), Source(source.scheme, source.rest, rest)

    def spec(self, source: Source) -> str:
        """The string that loads this source with this request again."""
        said = dict(source.options)
        if self.task is not None:
            said["task"] = self.task
        if self.classes is not None:
            said["classes"] = _written(self.classes)
        if self.size is not None:
            said["size"] = str(self.size[0]) if self.size[0] == self.size[1] else f"{self.size[0]}x{self.size[1]}"
        if self.channels is not None:
            said["channels"] = str(self.channels)
        if self.on_error != "stop":
            said["on_error"] = self.on_error
        options = "&".join(f"{name}={quote(value, safe=',/: ()')}" for name, value in said.items())
        return f"{source.scheme}:{source.rest.replace('?', '%3F')}" + (f"?{options}" if options else "")


def read_size(size: int | str | Sequence[int] | None) -> tuple[int, int] | None:
    """(H, W), both positive.

    >>> read_size(224), read_size("64x192"), read_size((64, 192))
    ((224, 224), (64, 192), (64, 192))
    """
    if size is None:
        return None
    match size:
        case int():
            sides = [size, size]
        case str():
            found = re.fullmatch(r"\s*(\d+)(?:\s*x\s*(\d+))?\s*", size)
            sides = [int(side or found[1]) for side in found.groups()] if found else []
        case _:
            sides = [int(side) for side in size]
    if len(sides) != 2 or min(sides) < 1:
        raise UserError(f"size={size!r}", "one positive number, or height and width", "write 224 or 64x192")
    return sides[0], sides[1]


def read_task(task: str | None) -> Task | None:
    if task is None:
        return None
    try:
        return Task(task)
    except ValueError:
        raise UserError(f"task={task!r}", f"one of {', '.join(Task)}") from None


def read_classes(classes: Sequence[str] | int | str | None) -> tuple[str, ...] | None:
    """Class names in the order of the labels: a sequence, a comma-separated string, or how many there are.

    >>> read_classes("cat,dog"), read_classes(3)
    (('cat', 'dog'), ('0', '1', '2'))
    """
    if classes is None:
        return None
    if isinstance(classes, str):
        # A comma inside a name is written %2C, as the spec of a loaded data set has it.
        classes = (
            int(classes)
            if classes.isdecimal()
            else [unquote(name.strip()) for name in classes.removesuffix(",").split(",")]
        )
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(map(str, classes))
    if not names or any(not name for name in names):
        raise UserError(f"classes={classes!r}", "at least one name, none of them empty", "write classes=cat,dog")
    return names


def read_on_error(text: str) -> Literal["stop", "skip"]:
    return read_value(text, Literal["stop", "skip"], "on_error")


def read_channels(text: str) -> Literal[1, 3]:
    return read_value(text, Literal[1, 3], "channels")


COMMON = {
    "size": "resize and crop images to this, as 224 or 64x192",
    "classes": "how many, or their names in the order of the labels, as cat,dog",
    "task": "classify or segment",
    "channels": "1 or 3",
    "on_error": "stop or skip, at a broken image",
}


def refuse_unknown(source: Source, *own: str) -> None:
    """Raise unless every option is one of the source's own; those that hold for every source are taken already."""
    source.refuse_unknown(*own, *_READERS)


def _written(classes: tuple[str, ...]) -> str:
    if classes == tuple(map(str, range(len(classes)))):
        return str(len(classes))
    if len(classes) == 1 and classes[0].isdecimal():  # "3" would read as three classes
        return f"{classes[0]},"
    return ",".join(map(_quoted_class, classes))


def _quoted_class(name: str) -> str:
    return quote(name, safe=" /()'" if name == name.strip() else "/()'")


_READERS = {
    "task": read_task,
    "classes": read_classes,
    "size": read_size,
    "channels": read_channels,
    "on_error": read_on_error,
}
