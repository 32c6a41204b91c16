"""From a photograph of printed cards to what lies on each: found by its markers, straightened by their corners."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from vallum.defences.defensive_patches.printing import markers
from vallum.defences.defensive_patches.printing.lens import Lens
from vallum.defences.defensive_patches.printing.sheet import Sheet
from vallum.errors import UserError
from vallum.models.making import need

LEAST = 3  # markers that a card must show: two lie on a line, and what is far from it would be guessed
BENT = 0.003  # corners that miss their places by such a share of the card's width tell of bent paper, or of a lens
PLAIN = 0.3  # pixels that corners may miss their places by before a lens is thought of
LARGEST_BEND = 0.2  # of a lens that is looked for; a telephone's is a tenth of it
FINEST = 16  # at most so many points of a crop's pixel are looked at, each way


@dataclass(frozen=True, eq=False)
class Found:
    """A card in a photo."""

    card: int
    matrix: np.ndarray  # (3, 3): from millimetres on the sheet to the photo's (x, y), (0, 0) its corner
    lens: Lens
    markers: int  # how many of the four were seen
    error: float  # of their corners from their places, root mean square, in pixels of the photo
    error_mm: float
    side: float  # how wide the image is in the photo, in pixels: the mean of its four sides

    def bent(self, sheet: Sheet) -> bool:
        return self.error_mm > BENT * sheet.width

    def photo_places(self, points: np.ndarray) -> np.ndarray:
        """(N, 2) in the photo for (N, 2) in millimetres."""
        return self.lens.bent(_mapped(self.matrix, points))

    def crop(self, photo: Tensor, sheet: Sheet, size: tuple[int, int] | None = None) -> Tensor:
        """What lies on the card, (3, h, w) from a photo (3, H, W) in [0, 1], straight, as the patches' images are.

        Each pixel is the mean of what the photo has in its place, so that a small crop of a large photo has no
        Moiré; what the photo's frame cut off is black.
        """
        high, wide = size or sheet.size
        points = min(max(math.ceil(self.side / wide), 1), FINEST)
        ys, xs = ((torch.arange(n * points) + 0.5) / (n * points) for n in (high, wide))
        y, x = torch.meshgrid(ys * sheet.height, xs * sheet.width, indexing="ij")
        places = self.photo_places(torch.stack([x, y], -1).double().reshape(-1, 2).numpy())
        scale = np.array([2 / photo.shape[2], 2 / photo.shape[1]])
        grid = torch.from_numpy(places * scale - 1).to(photo).view(1, high * points, wide * points, 2)
        seen = F.grid_sample(photo[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return F.avg_pool2d(seen, points)[0].clamp(0, 1)


def find_cards(photo: Tensor, sheet: Sheet) -> tuple[list[Found], list[str]]:
    """The cards of a sheet that a photo (3, H, W) in [0, 1] shows, in order, and why others in it are not used."""
    grey = np.rint((photo.mean(0) * 255).clamp(0, 255).cpu().numpy()).astype(np.uint8)
    seen = markers.seen(grey)
    found, why = [], []
    for card in sorted({card for card, _ in seen}):
        places = {corner: where for (own, corner), where in seen.items() if own == card}
        name = _name(sheet, card)
        if card not in sheet.cards:
            why.append(f"it has a marker of {name}, which is not on this sheet")
        elif any(len(where) > 1 for where in places.values()):
            why.append(f"{name} is in it more than once: photograph one at a time")
        elif len(places) < LEAST:
            why.append(f"of {name} {len(places)} of the 4 markers can be seen, at least {LEAST} are needed")
        else:
            found.append(_fitted(card, {corner: where[0] for corner, where in places.items()}, sheet, grey.shape))
    if not seen:
        why.append(
            "no marker can be seen in it: all four corners of the card belong in the picture, sharp and evenly lit, "
            "and each marker at least 20 pixels wide"
        )
    return found, why


def rectify(photo: Tensor, sheet: Sheet, size: tuple[int, int] | None = None) -> Tensor:
    """The straight crop (3, h, w) of the one card that a photo (3, H, W) in [0, 1] shows."""
    found, why = find_cards(photo, sheet)
    if len(found) != 1:
        raise UserError(f"{len(found)} cards in the photo", "; ".join(why) or "one is expected", "use find_cards")
    return found[0].crop(photo, sheet, size)


def _fitted(card: int, seen: dict[int, np.ndarray], sheet: Sheet, shape: tuple[int, ...]) -> Found:
    order = sorted(seen)
    photo = np.concatenate([seen[corner] for corner in order])  # (4 to a marker, 2)
    paper = np.concatenate([sheet.corners(corner) for corner in order])

    def fit(bend: float) -> Found:
        lens = Lens(bend, shape[1], shape[0])
        flat = lens.straight(photo)
        matrix, _ = need("cv2", extra="patches").findHomography(paper, flat, 0)
        if matrix is None:
            raise UserError(f"the markers of {_name(sheet, card)} lie on a line", remedy="photograph it from the front")
        error = _rms(lens.bent(_mapped(matrix, paper)) - photo)
        error_mm = _rms(_mapped(np.linalg.inv(matrix), flat) - paper)
        image = np.array([(0, 0), (sheet.width, 0), (sheet.width, sheet.height), (0, sheet.height)])
        corners = _mapped(matrix, image)
        side = float(np.linalg.norm(np.roll(corners, -1, 0) - corners, axis=1).mean())
        return Found(card, matrix, lens, len(order), error, error_mm, side)

    straight = fit(0.0)
    if len(order) < 4 or straight.error < PLAIN:
        return straight
    # Sixteen corners settle the eight numbers of a perspective, and one of a lens.
    best = minimize_scalar(lambda bend: fit(bend).error, bounds=(-LARGEST_BEND, LARGEST_BEND), method="bounded")
    bent = fit(float(best.x))
    return bent if bent.error < straight.error / 2 else straight


def _name(sheet: Sheet, card: int) -> str:
    if card == markers.CHART:
        return "the colour chart"
    if sheet.universal and card in sheet.cards:
        return "the card"
    return f"“{sheet.classes[sheet.cards[card]]}”" if card in sheet.cards else f"card {card}"


def _mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 2) through a homography."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(moved[:, :2] / moved[:, 2:])


def _rms(differences: np.ndarray) -> float:
    return float(np.sqrt((differences**2).sum(1).mean()))
