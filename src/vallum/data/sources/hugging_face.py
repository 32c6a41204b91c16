"""Data sets of the Hugging Face hub, or saved by its library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vallum.data.data import Data
from vallum.data.objects import LABEL_KEYS, Items
from vallum.data.request import DATA_SOURCES, Request, refuse_unknown
from vallum.errors import UserError
from vallum.specs import Source


@DATA_SOURCES.register(
    "hf",
    split="its name, as test",
    config="which of several data sets",
    revision="branch, tag or commit",
    image="column of the images",
    label="column of the labels",
)
def hugging_face(source: Source, request: Request) -> Data:
    """Hugging Face data sets, by name or folder: hf:cifar10?split=test (needs vallum[hf])

    The picture is the first image column and the label the class column, or the second image column for a segmenter;
    `image=` and `label=` name others. `config=` and `revision=` choose among versions.
    """
    refuse_unknown(source, *DATA_SOURCES.options["hf"])
    try:
        import datasets
    except ImportError:
        raise UserError("Hugging Face's datasets is not installed", remedy='pip install "vallum[hf]"') from None
    split = source.options.get("split", "test")
    table = _load(datasets, source, split)
    image, label = _columns(datasets, table, source)
    table = table.select_columns([image, label])
    kinds = table.features
    for column in (image, label):
        if isinstance(kinds[column], datasets.Image):  # its bytes: decoded here, with the same care as any file
            table = table.cast_column(column, datasets.Image(decode=False))
    classes = request.classes or tuple(getattr(kinds[label], "names", None) or ())
    return Items(Rows(table, image, label), request, classes, where=f"hf:{source.rest}")


class Rows:
    """A table's rows as (image, label), images as the bytes of their files."""

    def __init__(self, table: Any, image: str, label: str) -> None:
        self.table, self.image, self.label = table, image, label

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self.table[index]
        return _content(row[self.image]), _content(row[self.label])


def _content(cell: Any) -> Any:
    if isinstance(cell, dict) and "bytes" in cell:
        return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
    return cell


def _load(datasets: Any, source: Source, split: str) -> Any:
    saved = Path(source.rest)
    try:
        if (saved / "dataset_dict.json").exists() or (saved / "state.json").exists():
            found = datasets.load_from_disk(str(saved))
            if isinstance(found, datasets.Dataset):
                if "split" in source.options:
                    raise UserError(f"{saved} is one split", "a data set saved on its own", "leave out split=")
                return found
            if split not in found:
                raise UserError(f"{saved} has no split {split!r}", f"it has {', '.join(found)}", "write ?split=NAME")
            return found[split]
        config, revision = source.options.get("config"), source.options.get("revision")
        return datasets.load_dataset(source.rest, config, split=split, revision=revision)
    except UserError:
        raise
    except Exception as error:  # the hub, the network, the files and the builder each have errors of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"hf:{source.rest} cannot be loaded ({reason})",
            "the name of a data set on the hub, or a folder, and a split that it has",
            "write hf:NAME?split=validation, with &config=NAME where there are several",
        ) from None


def _columns(datasets: Any, table: Any, source: Source) -> tuple[str, str]:
    """The columns of pictures and of labels: those that were named, else the first that look like them."""
    columns = table.features
    for role in ("image", "label"):
        if role in source.options and source.options[role] not in columns:
            raise UserError(
                f"hf:{source.rest} has no column {source.options[role]!r}",
                f"it has {', '.join(columns)}",
                f"write {role}=NAME",
            )
    pictures = [name for name, kind in columns.items() if isinstance(kind, datasets.Image)]
    image = source.options.get("image") or next(iter(pictures), None)
    named = [name for name, kind in columns.items() if isinstance(kind, datasets.ClassLabel)]
    usual = [key for key in LABEL_KEYS if key in columns]
    rest = [name for name in (*named, *usual, *pictures) if name != image]
    label = source.options.get("label") or next(iter(rest), None)
    if image is None or label is None:
        raise UserError(
            f"hf:{source.rest} has the columns {', '.join(columns)}",
            "one of pictures and one of labels",
            "name them: image=NAME&label=NAME",
        )
    return image, label
