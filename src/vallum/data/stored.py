"""Arrays in an .npz file, mapped into memory rather than read: only the pages that are looked at are loaded."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vallum.errors import UserError

_LOCAL_HEADER = 30  # bytes before the name in a zip's local header, whose last four hold the lengths of name and extra


class StoredArray:
    """One array of an .npz file: mapped where it lies if it is stored, else from a copy that vanishes with the process.

    It pickles as the file's name, and is mapped anew in each process.
    """

    def __init__(self, path: Path, member: str) -> None:
        self.path, self.member = path, member
        self._mapped: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:
        if self._mapped is None:
            self._mapped = self._map()
        return self._mapped

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(self.array[index])  # a copy: whoever holds it does not hold the file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}

    def _map(self) -> np.ndarray:
        with zipfile.ZipFile(self.path) as archive, self.path.open("rb") as file:
            info = archive.getinfo(f"{self.member}.npy")
            if info.compress_type == zipfile.ZIP_STORED:
                file.seek(info.header_offset + _LOCAL_HEADER - 4)
                lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
                return self._map_at(file, info.header_offset + _LOCAL_HEADER + lengths, info.file_size)
            free = shutil.disk_usage(tempfile.gettempdir()).free
            if info.file_size > free:
                raise UserError(
                    f"{self.member} in {self.path} unpacks to {info.file_size:,} bytes",
                    f"{free:,} are free in {tempfile.gettempdir()}",
                    "save it with numpy.savez instead of savez_compressed, or point TMPDIR to a larger disk",
                )
            with archive.open(info) as packed, tempfile.TemporaryFile() as unpacked:
                shutil.copyfileobj(packed, unpacked)
                unpacked.flush()
                return self._map_at(unpacked, 0, info.file_size)

    def _map_at(self, file: Any, start: int, size: int) -> np.ndarray:
        """Map the .npy that begins at `start`: a mapping outlives its file's closing, and its deletion."""
        file.seek(start)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise UserError(
                f"{self.member} in {self.path} holds Python objects", "numbers", "save one array of one shape and type"
            )
        offset = file.tell()
        if int(np.prod(shape, dtype=object)) * dtype.itemsize > start + size - offset:
            raise UserError(f"{self.member} in {self.path} is cut short", "a whole .npz file", "save it again")
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, "r", offset, shape, "F" if fortran else "C")


def stored_arrays(path: Path, wanted: Sequence[str]) -> dict[str, StoredArray]:
    """Those of the wanted arrays that the .npz file has; each is mapped, so that a broken file is found now."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        for member in wanted:
            if member in members:
                found[member] = StoredArray(path, member)
                found[member].array  # noqa: B018 - maps it
    except UserError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{path} cannot be read ({error})", "an .npz file, as numpy.savez writes it", "save it again"
        ) from None
    return found
