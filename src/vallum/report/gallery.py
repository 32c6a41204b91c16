"""The gallery: what the threats made of a few images, and what the models said to it, as data for the page's script.

A picture is embedded once however many models met it. What a threat made of an image travels as the stretched
difference, and the script adds it to the original when somebody looks at it.
"""

from __future__ import annotations

import base64
import colorsys
import io
from typing import Any

import numpy as np
from PIL import Image

from vallum.errors import printable
from vallum.evaluation.pictures import Picture, spread
from vallum.report.figure import COLOURS
from vallum.report.study import Study

LARGEST = 224  # pixels of a picture's longer side on the page
EXACT = 96  # up to which it is embedded without loss
MEGABYTES = 2.0  # of pictures in a page, in base64
CLASSIFIED = ("stands", "falls", "wrong before", "turns right")
SEGMENTED = ("stands", "harmed", "broken", "wrong before")  # at least 0.9, at least half, less of the clean share
LOW = 0.5  # of an image's pixels: where fewer are right clean there is little that a threat could take
IGNORED = "#ffffff"  # of pixels that do not count: no class has it


def gallery(study: Study, megabytes: float = MEGABYTES) -> dict[str, Any] | None:
    """What the page's script shows; None where no pictures were kept.

    Of fewer images, spread evenly, where all of them would make the page too large.
    """
    kept: dict[tuple[str, str, str, int], Picture] = {}
    for run, called in zip(study.runs, study.called, strict=True):
        kept |= {(called[p.model], p.threat, p.surface, p.key): p for p in run.pictures}
    originals = {key: picture for (_, _, _, key), picture in kept.items() if picture.original is not None}
    if not originals:
        return None
    everything, count, encoded = sorted(originals), len(originals), dict[bytes, str]()
    while True:
        shown = spread(everything, count)
        chosen = set(shown)
        album = _album(study, {at: p for at, p in kept.items() if at[3] in chosen}, originals, encoded)
        size = sum(map(len, album["pictures"]))
        if size <= megabytes * 1e6 or count == 1:
            return {**album, "kept": len(everything), "shown": len(shown)}
        count = max(1, min(count - 1, int(count * megabytes * 1e6 / size)))


def _album(
    study: Study,
    kept: dict[tuple[str, str, str, int], Picture],
    originals: dict[int, Picture],
    encoded: dict[bytes, str],
) -> dict[str, Any]:
    store = _Store(encoded)
    rows = _rows(study, sorted({key for *_, key in kept}))
    places = [(spec, surface) for spec, surface in dict.fromkeys((at[1], at[2]) for at in rows)]
    several = {spec for spec, _ in places if sum(spec == other for other, _ in places) > 1}
    clean = {(model, key): row for (model, spec, _, key), row in rows.items() if spec == "clean"}
    images: dict[int, dict[str, Any]] = {}
    items = []
    for (model, spec, surface, key), row in rows.items():
        picture = kept.get((model, spec, surface, key))
        if picture is None or key not in originals:
            continue
        if key not in images:
            original = originals[key]
            assert original.original is not None
            images[key] = {
                "name": printable(row["name"]),
                "picture": store.image(255 * original.original),
                "truth": None if original.truth is None else store.mask(original.truth),
                "label": row["label"],
            }
        scale = float(np.abs(picture.difference).max())
        items.append(
            {
                "image": list(images).index(key),
                "model": study.names.index(model),
                "threat": places.index((spec, surface)),
                "picture": store.image(128 + 127 * picture.difference / scale) if scale else None,
                "scale": scale,
                "answer": row["prediction"],
                "accuracy": round(row["accuracy"], 4),
                "mask": None if picture.answer is None else store.mask(picture.answer),
                "verdict": _verdict(study, row, clean.get((model, key))),
            }
        )
    segments = study.plan.task != "classify"
    return {
        "task": study.plan.task,
        "classes": [printable(name) for name in study.plan.classes],
        "colours": [_hex(place) for place in range(len(study.plan.classes))] if segments else [],
        "ignored": IGNORED,
        "models": [printable(name) for name in study.names],
        "threats": [printable(f"{spec}, {surface}" if spec in several else spec) for spec, surface in places],
        "verdicts": SEGMENTED if segments else CLASSIFIED,
        "first": _first(study, places),
        "images": list(images.values()),
        "items": items,
        "mime": f"image/{store.format}",
        "pictures": store.pictures,
    }


def _rows(study: Study, keys: list[int]) -> dict[tuple[str, str, str, int], dict[str, Any]]:
    """The rows of these images, threats in order."""
    found = {}
    columns = "model, threat, surface, key, name, label, prediction, accuracy"
    listed = ", ".join(map(str, keys)) or "NULL"
    for run, called in zip(study.runs, study.called, strict=True):
        names, values = run.fetch(f"SELECT {columns} FROM rows WHERE key IN ({listed})")
        for value in values:
            row = dict(zip(names, value, strict=True))
            found[called[row["model"]], row["threat"], row["surface"], row["key"]] = row
    order = {spec: place for place, spec in enumerate(study.kinds)}
    return dict(sorted(found.items(), key=lambda one: (one[0][3], order[one[0][1]], study.names.index(one[0][0]))))


def _verdict(study: Study, row: dict[str, Any], clean: dict[str, Any] | None) -> int:
    before, now = (clean or row)["accuracy"], row["accuracy"]
    if study.plan.task == "classify":
        return {(1, 1): 0, (1, 0): 1, (0, 0): 2, (0, 1): 3}[int(before), int(now)]
    if before < LOW:
        return SEGMENTED.index("wrong before")
    return 0 if now >= 0.9 * before else 1 if now >= 0.5 * before else 2


def _first(study: Study, places: list[tuple[str, str]]) -> int | None:
    """The attack, and the surface, that leaves least: what one wants to see first."""
    left = {
        places.index((one.threat, one.surface)): study.rate(one).value
        for one in sorted(study.outcomes, key=lambda one: -study.rate(one).value)  # of several models the least
        if study.kinds.get(one.threat) == "attack" and (one.threat, one.surface) in places
    }
    return min(left, key=lambda place: left[place], default=None)


class _Store:
    """Encoded pictures, each kept once."""

    def __init__(self, encoded: dict[bytes, str]) -> None:
        self.pictures: list[str] = []
        self.format = "webp"  # of what browsers read, the smallest
        self._places: dict[bytes, int] = {}
        self._encoded = encoded

    def image(self, values: np.ndarray) -> int:
        """(H, W, channels) in 0 .. 255."""
        pixels = np.rint(values).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        return self._add(_smaller(picture, Image.Resampling.BOX))

    def mask(self, mask: np.ndarray) -> int:
        """(H, W) of classes, in their colours."""
        from vallum.images import IGNORE  # here, since reading a run needs no torch otherwise

        palette = [channel for place in range(IGNORE) for channel in _colour(place)]
        palette += _channels(IGNORED)
        picture = Image.fromarray(mask.astype(np.uint8))
        picture.putpalette(palette)
        return self._add(_smaller(picture, Image.Resampling.NEAREST).convert("RGB"), exact=True)

    def _add(self, picture: Image.Image, *, exact: bool = False) -> int:
        content = picture.tobytes()
        if content not in self._encoded:
            held = io.BytesIO()
            lossless = exact or max(picture.size) <= EXACT
            picture.save(held, self.format, lossless=lossless, quality=50 if lossless else 85, method=2)
            self._encoded[content] = base64.b64encode(held.getvalue()).decode()
        if content not in self._places:
            self._places[content] = len(self.pictures)
            self.pictures.append(self._encoded[content])
        return self._places[content]


def _smaller(picture: Image.Image, how: Image.Resampling) -> Image.Image:
    share = LARGEST / max(picture.size)
    if share >= 1:
        return picture
    return picture.resize((max(1, round(picture.width * share)), max(1, round(picture.height * share))), how)


def _colour(place: int) -> tuple[int, int, int]:
    """Of a class in a mask: those that everybody can tell apart first, then around the circle, light and dark."""
    if place < len(COLOURS):
        return _channels(COLOURS[place])
    parts = colorsys.hls_to_rgb(place * 0.618 % 1, (0.35, 0.55, 0.75)[place % 3], 0.6)
    return tuple(round(255 * part) for part in parts)  # type: ignore[return-value]


def _channels(colour: str) -> tuple[int, int, int]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))  # type: ignore[return-value]


def _hex(place: int) -> str:
    return "#" + "".join(f"{part:02x}" for part in _colour(place))
