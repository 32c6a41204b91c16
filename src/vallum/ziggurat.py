"""Normal noise from raw random words, whole arrays at a time (Marsaglia and Tsang 2000, "The ziggurat method").

The area under the bell curve, one half of it, lies in 256 layers of equal area, each a rectangle with a rest at its
end. A layer is drawn, and a place in it; nearly always that place lies in the rectangle, and all there is to do is one
product, the same on every machine. Few places lie in a rest, where the curve itself must be asked.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

LAYERS = 256
TAIL = 3.6541528853610088  # where the lowest layer turns from a rectangle into the tail
AREA = 0.00492867323399  # of each layer, the curve's height in the middle being 1


def _height(place: np.ndarray) -> np.ndarray:
    return np.exp(-place * place / 2)


@lru_cache(maxsize=1)
def _widths() -> np.ndarray:
    """(LAYERS + 1,) of the layers from the lowest to the top, which has none; the lowest is what holds its tail too."""
    widths = [AREA / float(_height(np.array(TAIL))), TAIL]
    while len(widths) < LAYERS:
        widths.append(float(np.sqrt(-2 * np.log(AREA / widths[-1] + _height(np.array(widths[-1]))))))
    return np.array([*widths, 0.0])


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Each layer's width over 2 ** 23, and how wide the layer above is: within that, it is a rectangle."""
    widths = _widths().astype(np.float32)
    return widths[:-1] * np.float32(2.0**-23), widths[1:].copy()


def words(stream: np.random.Generator, count: int) -> np.ndarray:
    """(count,) of 32 random bits, the lower half of each of the stream's 64 first, as NumPy takes them."""
    drawn = stream.integers(2**64 - 1, size=(count + 1) // 2, dtype=np.uint64, endpoint=True)
    return drawn.astype("<u8", copy=False).view("<u4")[:count]


def normal(stream: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 of this shape.

    >>> drawn = normal(np.random.Generator(np.random.Philox(1)), (100, 100))
    >>> bool(abs(drawn.mean()) < 0.05), bool(abs(drawn.std() - 1) < 0.05)
    (True, True)
    """
    scale, inner = _tables()
    bits = words(stream, math.prod(shape))
    layer = (bits & (LAYERS - 1)).astype(np.intp)
    drawn = (bits.view("<i4") >> 8).astype(np.float32)  # the other 24 bits, of which one is the sign
    drawn += np.float32(0.5)
    drawn *= scale.take(layer, mode="clip")
    rest = np.flatnonzero(np.abs(drawn) >= inner.take(layer, mode="clip"))
    drawn[rest] = _corrected(stream, drawn[rest].astype(np.float64), layer[rest])
    return drawn.reshape(shape)


def _corrected(stream: np.random.Generator, drawn: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """What becomes of places in the rests: kept under the curve, above it drawn anew."""
    widths = _widths()
    low, high = _height(widths[layer]), _height(widths[layer + 1])
    kept = low + stream.random(len(drawn)) * (high - low) < _height(drawn)
    fresh = stream.standard_normal(len(drawn))
    tail = layer == 0
    result = np.where(kept | tail, drawn, fresh)
    result[tail] = np.copysign(_beyond(stream, int(tail.sum())), drawn[tail])
    return result


def _beyond(stream: np.random.Generator, count: int) -> np.ndarray:
    """(count,) from the tail (Marsaglia 1964)."""
    found = np.empty(0)
    while len(found) < count:
        past, check = stream.exponential(size=(2, 2 * count)) / [[TAIL], [1]]
        found = np.append(found, TAIL + past[2 * check > past * past])
    return found[:count]
