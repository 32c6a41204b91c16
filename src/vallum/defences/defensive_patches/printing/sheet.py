"""What is known of something that was printed: enough to find it in a photograph. It lies beside the print as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vallum.defences.defensive_patches.printing import markers
from vallum.disk import write_whole
from vallum.errors import UserError

SHEET, FORMAT = "sheet.json", 1


@dataclass(frozen=True)
class Sheet:
    """Cards with the same four markers' places, and what lies between them; in millimetres, as in `Card`."""

    squares: tuple[tuple[float, float], ...]  # the upper left corner of each marker, clockwise
    marker: float
    width: float  # of the image that is cut out of a photo, whose upper left corner is (0, 0)
    height: float
    size: tuple[int, int]  # (H, W) in pixels, of the images that the patches were made for
    cards: Mapping[int, int]  # the number in a card's markers, and the class of its patch
    classes: tuple[str, ...]
    universal: bool = False  # one patch for all classes, which says nothing of the object
    made: Mapping[str, Any] = field(default_factory=dict)

    def corners(self, corner: int) -> np.ndarray:
        """(4, 2): where the corners of one marker are."""
        return markers.corners(*self.squares[corner], self.marker)

    def save(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, "kind": "sheet", **asdict(self)}, indent=2) + "\n"
        write_whole(folder / SHEET, lambda path: path.write_text(text, encoding="utf-8"))
        return folder / SHEET

    @classmethod
    def load(cls, path: str | Path) -> Sheet:
        """From sheet.json, or from the folder that holds it."""
        path = Path(path).expanduser()
        path = path / SHEET if path.is_dir() else path
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if (facts.pop("format"), facts.pop("kind")) != (FORMAT, "sheet"):
                raise UserError(f"{path} describes no print that this vallum reads")
            facts["squares"] = tuple((float(x), float(y)) for x, y in facts["squares"])
            facts["size"] = (int(facts["size"][0]), int(facts["size"][1]))
            facts["cards"] = {int(card): int(label) for card, label in facts["cards"].items()}
            facts["classes"] = tuple(map(str, facts["classes"]))
            sheet = cls(**facts)
        except UserError:
            raise
        except Exception as error:  # no such file, no JSON, or without one of its parts
            raise UserError(
                f"{path} describes no print", f"{type(error).__name__}: {error}",
                f"name the folder that `vallum patch print` wrote, with its {SHEET}",
            ) from error  # fmt: skip
        if len(sheet.squares) != 4:
            raise UserError(
                f"{path} is of a print without fiducials", "a photo is straightened by them",
                "print without --no-fiducials",
            )  # fmt: skip
        return sheet
