"""A PDF is rasterised by another program, and its sizes and colours are found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pypdfium2
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vallum.defences.defensive_patches import Corners, PatchSet, Ring, Shape, Square
from vallum.defences.defensive_patches.printing import markers
from vallum.defences.defensive_patches.printing.card import AWAY, MARK, Card
from vallum.defences.defensive_patches.printing.drawing import bar_length
from vallum.defences.defensive_patches.printing.press import print_patches, widest_on
from vallum.defences.defensive_patches.printing.sheet import Sheet
from vallum.errors import UserError

MM = 72 / 25.4


def patches(shape: Shape, classes: tuple[str, ...] = ("stop", "give way"), size: int = 32) -> PatchSet:
    """Colours none of which is white, grey or black."""
    draw = torch.Generator().manual_seed(1)
    colours = torch.rand(len(classes), 3, size, size, generator=draw) * 0.4
    colours[:, 0] += 0.6
    return PatchSet(colours, shape.mask(size, size), classes, (size, size))


def rendered(page: pypdfium2.PdfPage, per_mm: float, left=0.0, top=0.0, right=None, bottom=None) -> np.ndarray:
    """(H, W, 3) uint8 of a part of a page, in millimetres."""
    wide, high = (points / MM for points in page.get_size())
    crop = (left, high - (high if bottom is None else bottom), wide - (wide if right is None else right), top)
    shown = page.render(scale=per_mm / MM, crop=tuple(side * MM for side in crop), no_smoothtext=True)
    return np.asarray(shown.to_pil().convert("RGB"))


def coloured(picture: np.ndarray) -> np.ndarray:
    return np.ptp(picture.astype(int), axis=2) > 30


def extent(page: pypdfium2.PdfPage) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of all that is coloured, in millimetres: first roughly, then each edge closely."""
    wide, high = (points / MM for points in page.get_size())
    rough = 800 / max(wide, high)
    there = coloured(rendered(page, rough))
    edges = []
    for axis, length in ((1, wide), (0, high)):
        along = np.flatnonzero(there.any(1 - axis))
        for near in (along[0] / rough, (along[-1] + 1) / rough):
            fine, reach = 40.0, 3 / rough
            box = [0.0, 0.0, wide, high]
            box[1 - axis], box[3 - axis] = max(near - reach, 0), min(near + reach, length)
            middle = np.flatnonzero(there.any(axis))  # a band of what is coloured, the other way
            start = middle[len(middle) // 2 - len(middle) // 3] / rough
            box[axis], box[axis + 2] = start, start + 1.0
            strip = np.flatnonzero(coloured(rendered(page, fine, *box)).any(1 - axis))
            edges.append(box[1 - axis] + (strip[0] if near == along[0] / rough else strip[-1] + 1) / fine)
    return edges[0], edges[2], edges[1], edges[3]


def marker_centre(page: pypdfium2.PdfPage, which: tuple[int, int], near: np.ndarray, side: float) -> np.ndarray:
    """In millimetres, from a picture of its surroundings in which it is 700 pixels wide."""
    wide = page.get_size()[0] / MM
    per_mm = (int(700 / side * wide) - 1e-6) / wide  # a page of whole pixels, or it would be stretched to fill them
    start = np.maximum(((near - 0.8 * side) * per_mm).astype(int), 0) / per_mm
    end = np.minimum(near + 0.8 * side, wide)
    shown = rendered(page, per_mm, *np.maximum(start - 1e-4, 0), *end)  # which rounds up to whole pixels
    seen = markers.seen(np.asarray(Image.fromarray(shown).convert("L")))
    assert list(seen) == [which]
    return seen[which][0].mean(0) / per_mm + start


@settings(max_examples=5)
@given(width=st.floats(20, 1000), fiducials=st.booleans(), which=st.integers(0, 1))
def test_size_colours_and_markers_are_found_again(width: float, fiducials: bool, which: int, tmp_path_factory) -> None:
    ring = patches(Ring(30, 26))
    out = tmp_path_factory.mktemp("print")
    done = print_patches(ring, width, out, fiducials=fiducials, formats=("pdf",))
    with pypdfium2.PdfDocument(done.pdf) as pdf:
        assert len(pdf) == 2
        page = pdf[which]
        marker = 4 / 26 * width * fiducials
        card = (32 if fiducials else 30) / 26 * width + 2 * marker * (1 + 2.5 / 7)
        points = page.get_size()
        assert points[0] == pytest.approx((card + 14) * MM, abs=0.01)
        left, top, right, bottom = extent(page)
        assert right - left == pytest.approx(30 / 26 * width, abs=0.1)
        assert bottom - top == pytest.approx(30 / 26 * width, abs=0.1)
        middle = 7 + card / 2
        assert (left + right) / 2 == pytest.approx(middle, abs=0.05)
        assert (top + bottom) / 2 == pytest.approx(middle, abs=0.05)

        pixel, per_mm = width / 26, 6 * 26 / width
        picture = rendered(page, per_mm)
        at = ((np.arange(1, 31) - 16 + 0.5) * pixel + middle) * per_mm
        rows, columns = np.meshgrid(at.astype(int), at.astype(int), indexing="ij")
        sent = np.asarray(ring.picture(which))[1:31, 1:31]
        there = sent[..., 3] > 0
        assert (picture[rows, columns][there] == sent[..., :3][there]).all()
        assert (picture[rows, columns][~there] == 255).all()

        if fiducials:
            gap, far = 1.25 / 7 * marker, 16 / 26 * width
            for corner, (x, y) in enumerate([(-1, -1), (1, -1), (1, 1), (-1, 1)]):
                expected = middle + np.array([x, y]) * (far + gap + marker / 2)
                found = marker_centre(page, (which, corner), expected, marker)
                assert np.abs(found - expected).max() < 0.1


@pytest.mark.parametrize("width", [40.0, 600.0])
def test_the_scale_bar_is_as_long_as_it_says(width: float, tmp_path: Path) -> None:
    done = print_patches(patches(Ring(30, 26), ("stop",)), width, tmp_path, formats=("pdf",))
    left, top, right, bottom = done.card.strip
    length = bar_length(0.4 * (right - left))
    shift = -done.card.block[0]
    with pypdfium2.PdfDocument(done.pdf) as pdf:
        y = top + 0.45 * (bottom - top) + shift
        strip = rendered(pdf[0], 40, right - 0.45 * (right - left) + shift, y - 0.4, right + shift + 1, y + 0.4)
        runs = (strip.max(2) < 128).sum(1)
        assert runs.max() / 40 == pytest.approx(length, abs=0.1 + 0.2)  # its end ticks are 0.2 mm thick
    assert f"{length:g}" in ("10", "20", "200")


@pytest.mark.parametrize("shape", [Ring(30, 26), Square(10), Corners()])
def test_pngs_hold_whole_pixels_their_size_and_srgb(shape: Shape, tmp_path: Path) -> None:
    set_ = patches(shape)
    done = print_patches(set_, 60, tmp_path, dpi=150)
    assert [path.name for path in done.pngs] == ["patch-0-stop.png", "patch-1-give-way.png"]
    with Image.open(done.pngs[1]) as picture:
        assert b"sRGB" in done.pngs[1].read_bytes()[:200]
        per_mm = picture.info["dpi"][0] / 25.4
        left, _, right, _ = done.card.edge
        assert picture.width / per_mm == pytest.approx(right - left, abs=1 / per_mm)
        side = done.card.pixel * per_mm
        assert side == pytest.approx(round(side), abs=1e-3)
        pixels, side = np.asarray(picture), round(side)
    start = round(-left * per_mm)
    canvas = pixels[start : start + 32 * side, start : start + 32 * side]
    blocks = canvas.reshape(32, side, 32, side, 4)
    assert (blocks == blocks[:, :1, :, :1]).all()
    sent = np.asarray(set_.picture(1))
    there = sent[..., 3] > 0
    assert (blocks[:, 0, :, 0][there] == sent[there]).all()
    assert (blocks[:, 0, :, 0, 3] == 0).sum() == {"ring": 26 * 26, "square": 1024 - 100, "corners": 1024 - 4 * 49}[
        type(shape).__name__.lower()
    ]  # fmt: skip


def test_tiles_show_every_pixel(tmp_path: Path) -> None:
    set_ = patches(Ring(30, 26), ("stop",))
    done = print_patches(set_, 300, tmp_path, page="a4", tile=True, formats=("pdf",))
    sent = np.asarray(set_.picture(0))
    shown = np.zeros((32, 32), bool)
    with pypdfium2.PdfDocument(done.pdf) as pdf:
        assert len(pdf) == len(done.pages) > 4
        for page, laid in zip(pdf, done.pages, strict=True):
            assert tuple(points / MM for points in page.get_size()) in [
                pytest.approx((210, 297), abs=0.01), pytest.approx((297, 210), abs=0.01),
            ]  # fmt: skip
            picture, x, y = rendered(page, 2), laid.placed[0].x, laid.placed[0].y
            for row, column in np.argwhere(sent[..., 3] > 0):
                for part in (0.3, 0.5, 0.7):  # one of them lies on no seam
                    at = (((np.array([row, column]) + part) * done.card.pixel + (y, x)) * 2).astype(int)
                    if (at >= 0).all() and (at < picture.shape[:2]).all():
                        shown[row, column] |= bool((picture[tuple(at)] == sent[row, column, :3]).all())
    assert (shown == (sent[..., 3] > 0)).all()


def test_many_cards_share_a_sheet_and_do_not_overlap(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(5))
    done = print_patches(patches(Ring(30, 26), names), 40, tmp_path, page="letter", formats=("pdf",))
    with pypdfium2.PdfDocument(done.pdf) as pdf:
        found = []
        for page in pdf:
            seen = markers.seen(np.asarray(Image.fromarray(rendered(page, 6)).convert("L")))
            assert len(seen) % 4 == 0
            assert all(len(places) == 1 for places in seen.values())
            found += sorted({card for card, _ in seen})
    assert found == list(range(5))
    assert len(done.pages) < 5


def test_a_page_that_is_too_small_says_what_would_fit(tmp_path: Path) -> None:
    ring = patches(Ring(30, 26))
    with pytest.raises(UserError, match=r"at most (\d+) mm") as refused:
        print_patches(ring, 600, tmp_path, page="a4")
    widest = widest_on(Card.of(ring, 600), (210, 297), 6)
    assert f"at most {widest} mm" in str(refused.value)
    # The card is 32 pixels, two markers of 4 and their white around them wide; 26 of them are the object.
    assert widest == int((210 - 12 - 2 * (AWAY + MARK)) * 26 / (32 + 8 * (1 + 2.5 / 7)))
    print_patches(ring, widest, tmp_path, page="a4", formats=())
    with pytest.raises(UserError):
        print_patches(ring, widest + 1, tmp_path, page="a4", formats=())
    with pytest.raises(UserError, match="tile"):
        print_patches(ring, 6000, tmp_path, formats=("pdf",))


def test_what_cannot_be_printed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--font"):
        print_patches(patches(Ring(30, 26), ("停",)), 60, tmp_path)
    with pytest.raises(UserError, match="did you mean stop"):
        print_patches(patches(Ring(30, 26)), 60, tmp_path, classes=["stopp"])
    many = PatchSet(torch.rand(300, 3, 4, 4), Ring(4, 2).mask(4, 4), tuple(map(str, range(300))), (4, 4))
    with pytest.raises(UserError, match="--classes"):
        print_patches(many, 60, tmp_path, formats=())
    done = print_patches(many, 60, tmp_path, classes=["299"], formats=())
    assert '"0": 299' in done.sheet.read_text()


def test_a_later_print_of_other_classes_forgets_none(tmp_path: Path) -> None:
    for name in ("stop", "give way"):
        sheet = print_patches(patches(Ring(30, 26)), 60, tmp_path, classes=[name], formats=()).sheet
        assert set(Sheet.load(sheet).cards) == {0, 1}


def test_an_own_font_writes_any_name(tmp_path: Path) -> None:
    font = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
    if not font.is_file():
        pytest.skip("needs DejaVu Sans")
    done = print_patches(patches(Ring(30, 26), ("стоп",)), 60, tmp_path, font=font)
    with pypdfium2.PdfDocument(done.pdf) as pdf:
        assert "стоп" in pdf[0].get_textpage().get_text_bounded()


def test_the_same_patches_print_the_same_bytes(tmp_path: Path) -> None:
    first, second = (print_patches(patches(Ring(30, 26)), 60, tmp_path / name) for name in "ab")
    assert first.pdf.read_bytes() == second.pdf.read_bytes()
    assert [path.read_bytes() for path in first.pngs] == [path.read_bytes() for path in second.pngs]
