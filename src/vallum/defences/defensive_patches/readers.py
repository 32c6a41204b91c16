"""Machines that read the label off a patch and do not look at the object: classifiers of the patch alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vallum.defences.defensive_patches.codes import dictionary
from vallum.defences.defensive_patches.laying import lay
from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.errors import UserError
from vallum.models.making import need
from vallum.models.model import Model

SEEN = 256  # pixels of a side, about, that a decoder of markers is shown: it was made for photographs


class MatchedFilter(Model):
    """Which of the patches the pixels under the mask are most like: their correlation, blind to light and contrast.

    The best reader there is of known patterns in white noise, for patches of any kind. Differentiable.

    >>> patches = PatchSet(torch.rand(3, 3, 4, 4), torch.ones(4, 4), ("a", "b", "c"), image_size=(4, 4))
    >>> MatchedFilter(patches)(patches.patches).argmax(1).tolist()
    [0, 1, 2]
    """

    known: Tensor
    classes: tuple[str, ...]
    sharpness = 50.0  # what a correlation is multiplied by: so that logits differ by enough for a loss to see

    def __init__(self, patches: PatchSet) -> None:
        super().__init__()
        if patches.universal:
            raise UserError("one patch for all classes", "a reader tells patches apart")
        self.patches, self.classes = patches, patches.classes
        self.register_buffer("known", patches.patches.clone())
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        own, mask = self.known.to(images), self.patches.mask.to(images)
        empty = torch.zeros(len(own), 3, *images.shape[2:]).to(images)
        # Through the same laying, so that a fine patch is compared as the image shows it.
        shown, there = lay(empty, own, mask, self.patches.pixels_per_pixel(images))
        inside = there[0, 0] > 0.5
        seen, known = (_whitened(each[:, :, inside]) for each in (images, shown))  # (N, 3 P), (C, 3 P)
        return self.sharpness * seen @ known.T


def _whitened(pixels: Tensor) -> Tensor:
    """(N, 3, P) without the mean of each channel, of length 1: (N, 3 P)."""
    flat = (pixels - pixels.mean(2, keepdim=True)).flatten(1)
    return flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)


class MarkerReader(Model):
    """OpenCV's decoder of ArUco markers or QR codes; where it finds none, it guesses: a class drawn from the pixels."""

    known: Tensor
    classes: tuple[str, ...]
    differentiable = False

    def __init__(self, patches: PatchSet, kind: str = "aruco") -> None:
        super().__init__()
        self.patches, self.kind, self.classes = patches, kind, patches.classes
        self.register_buffer("known", patches.patches.clone())
        need("cv2", "patches")
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        answers = self.read(images)
        logits = torch.zeros(len(images), len(self.classes), device=images.device)
        for row, answer in enumerate(answers):
            if answer is None:
                answer = int((images[row].double() * 255).round().sum()) % len(self.classes)
            logits[row, answer] = 10.0
        return logits

    def read(self, images: Tensor) -> list[int | None]:
        """The class that each image's marker tells; None where none can be read."""
        cv2, found = need("cv2", "patches"), []
        find = _qr_finder() if self.kind == "qr" else _aruco_finder(len(self.classes))
        for image in (images.detach().cpu() * 255).round().byte().permute(0, 2, 3, 1).numpy():
            times = max(round(SEEN / max(image.shape[:2])), 1)
            large = cv2.resize(np.ascontiguousarray(image), None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
            number = find(large)
            found.append(number if number is not None and 0 <= number < len(self.classes) else None)
        return found


Finder = Callable[[np.ndarray], int | None]


def _aruco_finder(classes: int) -> Finder:
    cv2 = need("cv2", "patches")
    settings = cv2.aruco.DetectorParameters()
    settings.adaptiveThreshWinSizeMax = 53  # enlarged cells are wide
    settings.perspectiveRemoveIgnoredMarginPerCell = 0.25  # and blurred at their edges
    settings.minMarkerDistanceRate = 0.02
    detector = cv2.aruco.ArucoDetector(dictionary(cv2, classes), settings)

    def find(image: np.ndarray) -> int | None:
        numbers = detector.detectMarkers(image)[1]
        return None if numbers is None or not len(numbers) else int(np.ravel(numbers)[0])

    return find


def _qr_finder() -> Finder:
    cv2 = need("cv2", "patches")
    detector = cv2.QRCodeDetector()

    def find(image: np.ndarray) -> int | None:
        try:
            text = detector.detectAndDecode(image)[0]
        except cv2.error:  # on some images the detector fails instead of finding none
            return None
        return int(text) if text.isdigit() else None

    return find
