"""What a lens does to straight lines, to first order: a point moves along its distance from the photo's middle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Lens:
    """r becomes r (1 + bend r^2), where r = 1 is half the photo's width; negative is a barrel.

    >>> lens = Lens(bend=-0.1, width=200, height=100)
    >>> seen = lens.bent(np.array([[200.0, 50.0]]))
    >>> seen.tolist(), lens.straight(seen).round(6).tolist()
    ([[190.0, 50.0]], [[200.0, 50.0]])
    """

    bend: float
    width: int
    height: int

    def bent(self, places: np.ndarray) -> np.ndarray:
        """(N, 2) without a lens to where they are seen."""
        off = places - self._middle
        # Beyond where the curve turns back nothing is seen: there it goes on as it is there.
        far = np.minimum((off**2).sum(1, keepdims=True) / (self.width / 2) ** 2, 1 / max(-3 * self.bend, 1e-9))
        return np.asarray(self._middle + off * (1 + self.bend * far))

    def straight(self, places: np.ndarray) -> np.ndarray:
        """The other way round, by Newton's method."""
        off = places - self._middle
        seen = np.sqrt((off**2).sum(1, keepdims=True)) / (self.width / 2)
        r = seen.copy()
        for _ in range(8):
            r = r - (r + self.bend * r**3 - seen) / (1 + 3 * self.bend * r**2)
        return np.asarray(self._middle + off * np.divide(r, seen, out=np.ones_like(r), where=seen > 0))

    @property
    def _middle(self) -> np.ndarray:
        return np.array([self.width / 2, self.height / 2])
