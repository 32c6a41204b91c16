"""Where files lie: in a folder, or in a zip that is never unpacked onto the disk."""

from __future__ import annotations

import os
import stat
import zipfile
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from vallum.data.data import BrokenImageError
from vallum.data.decoding import EXTENSIONS, FILMS
from vallum.errors import UserError

LARGEST_FILE = 2**29  # bytes; an uncompressed picture at Pillow's limit of pixels is about as large


@dataclass
class Listing:
    """What a storage holds, by path relative to it, with / between folders."""

    names: list[str] = field(default_factory=list)  # pictures, sorted
    folders: list[str] = field(default_factory=list)
    films: list[str] = field(default_factory=list)  # which nothing here decodes
    problems: dict[str, BrokenImageError] = field(default_factory=dict)  # what cannot be read, and why

    def inside(self, folder: str) -> list[str]:
        return [name for name in self.names if name.startswith(folder)]

    def problems_in(self, *folders: str) -> dict[str, BrokenImageError]:
        """What is wrong inside these folders (written with a / at their end), or above them."""
        return {
            name: problem
            for name, problem in self.problems.items()
            if any(name.startswith(folder) or f"{folder}/".startswith(f"{name}/" if name else "") for folder in folders)
        }

    def pairs(self, pictures: str, masks: str) -> tuple[list[str], list[str | None]]:
        """The pictures in one folder, and each one's mask in another: the file of the same name up to the extension."""
        by_stem: dict[str, str] = {}
        for mask in self.inside(masks):
            stem = mask.removeprefix(masks).rpartition(".")[0]
            if stem in by_stem:
                self.problems[mask] = BrokenImageError(
                    f"{readable(by_stem[stem])} and {readable(mask)} are masks of one picture",
                    "one mask for each",
                    "delete the wrong one",
                )
            by_stem[stem] = mask
        names = self.inside(pictures)
        return names, [by_stem.get(name.removeprefix(pictures).rpartition(".")[0]) for name in names]


class Storage(ABC):
    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def listing(self) -> Listing: ...

    @abstractmethod
    def read(self, name: str) -> bytes:
        """A file's content; raises BrokenImageError naming it."""

    def where(self, name: str) -> str:
        return readable(f"{self.path}/{name}")

    def lines(self, name: str) -> list[str] | None:
        """A text file's lines without the empty ones; None where there is no such file."""
        try:
            content = self.read(name)
        except BrokenImageError:
            return None
        return [line.strip() for line in content.decode("utf-8-sig", "replace").splitlines() if line.strip()]

    def refuse_large(self, size: int, name: str) -> None:
        if size > LARGEST_FILE:
            raise BrokenImageError(
                f"{self.where(name)} is {size:,} bytes large",
                f"at most {LARGEST_FILE:,}",
                "if it is a picture and you trust it, save it compressed",
            )

    def unreadable(self, name: str, error: Exception | str) -> BrokenImageError:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        return BrokenImageError(
            f"{self.where(name)} cannot be read ({reason})", "a readable file", "replace it, or delete it"
        )


class Folder(Storage):
    def listing(self) -> Listing:
        found = Listing()
        waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
        while waiting:
            folder, above = waiting.pop()
            try:
                status = os.stat(self.path / folder)
                here = (status.st_dev, status.st_ino)
                if here in above:
                    raise BrokenImageError(
                        f"{self.where(folder)} leads back into itself", "links without a loop", "delete that link"
                    )
                entries = list(os.scandir(self.path / folder))
            except OSError as error:
                found.problems[folder] = self.unreadable(folder, error)
                continue
            except BrokenImageError as error:
                found.problems[folder] = error
                continue
            if folder:
                found.folders.append(folder)
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if _is_hidden(name):
                    continue
                if _is_folder(entry):
                    waiting.append((name, above | {here}))
                elif is_picture(name):
                    found.names.append(name)
                    if not _is_regular(entry):  # opening a pipe would wait for ever
                        found.problems[name] = self.unreadable(name, "neither a file nor a link to one")
                elif is_film(name):
                    found.films.append(name)
        found.names.sort()
        found.films.sort()
        found.folders.sort()
        return found

    def read(self, name: str) -> bytes:
        try:
            status = os.stat(self.path / name)
            if not stat.S_ISREG(status.st_mode):
                raise self.unreadable(name, "not a file")
            self.refuse_large(status.st_size, name)
            return (self.path / name).read_bytes()
        except OSError as error:
            raise self.unreadable(name, error) from None


class Zip(Storage):
    """Opened when first read, once in each process: an open file that forks or pickles would be shared or lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def listing(self) -> Listing:
        found = Listing()
        folders: set[str] = set()
        for name in dict.fromkeys(self._archive().namelist()):
            parts = name.replace("\\", "/").split("/")
            if _is_hidden(name.rstrip("/")):
                continue
            if ".." in parts or parts[0] == "":
                found.problems[name] = BrokenImageError(
                    f"{self.where(name)} points out of the zip", "names inside it", "make the zip again"
                )
                continue
            *above, last = name.rstrip("/").split("/")
            folders.update("/".join(above[: depth + 1]) for depth in range(len(above)))
            if name.endswith("/"):
                folders.add(name.rstrip("/"))
            elif is_picture(last):
                found.names.append(name)
            elif is_film(last):
                found.films.append(name)
        found.names.sort()
        found.films.sort()
        found.folders = sorted(folders)
        return found

    def read(self, name: str) -> bytes:
        archive = self._archive()
        try:
            self.refuse_large(archive.getinfo(name).file_size, name)
            return archive.read(name)
        except KeyError:
            raise self.unreadable(name, "no such file") from None
        except BrokenImageError:
            raise
        except Exception as error:  # a damaged, encrypted or exotic member: each decompressor has errors of its own
            raise self.unreadable(name, error) from None

    def _archive(self) -> zipfile.ZipFile:
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = (os.getpid(), zipfile.ZipFile(self.path))
            except (OSError, zipfile.BadZipFile) as error:
                raise UserError(f"{self.path} cannot be opened ({error})", "a whole zip", "make it again") from None
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def path_exists(text: str) -> bool:
    try:
        return bool(text) and Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long for a name, holding what no name can, or nobody's home
        return False


def existing_path(text: str, what: str) -> Path:
    """The path that a source names; it may write ? as %3F, and ~ for the home folder."""
    for spelling in (text, unquote(text)):
        if path_exists(spelling):
            return Path(spelling).expanduser()
    raise UserError(f"{text or 'the empty path'} does not exist", what, f"you are in {Path.cwd()}")


def open_storage(text: str) -> Storage:
    path = existing_path(text, "a folder of pictures, or a zip of one")
    if path.is_dir():
        return Folder(path)
    if zipfile.is_zipfile(path):
        return Zip(path)
    raise UserError(f"{path} is neither a folder nor a zip", "a folder of pictures, or a zip of one")


def readable(name: str) -> str:
    """A file's name as text that can be written anywhere, even where the disk holds bytes that are no text.

    >>> print(readable(b"caf\\xe9.png".decode("utf-8", "surrogateescape")))
    caf\\xe9.png
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_picture(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def is_film(name: str) -> bool:
    return name.lower().endswith(FILMS)


def _is_hidden(name: str) -> bool:
    parts = name.split("/")
    return parts[0] == "__MACOSX" or any(part.startswith(".") and part not in (".", "..") for part in parts)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_regular(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
