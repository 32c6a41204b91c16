"""Patches on paper, and back from photographs: `pip install "vallum[patches]"`."""

from __future__ import annotations

from vallum.lazy import lazily

__all__ = [
    "PrinterCamera", "Sheet", "find_cards", "fit_printer", "fitted", "load_printer", "print_chart", "print_patches",
    "rectify_photos",
]  # fmt: skip

_HERE = "vallum.defences.defensive_patches.printing"
__getattr__ = lazily(
    __name__,
    {
        "PrinterCamera": f"{_HERE}.printer",
        "Sheet": f"{_HERE}.sheet",
        "find_cards": f"{_HERE}.rectify",
        "fit_printer": f"{_HERE}.fitting",
        "fitted": f"{_HERE}.fitting",
        "load_printer": f"{_HERE}.printer",
        "print_chart": f"{_HERE}.chart",
        "print_patches": f"{_HERE}.press",
        "rectify_photos": f"{_HERE}.photos",
    },
)
