"""Made-up photographs of printed cards, in which it is known where everything is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from photographer import Scene, with_object
from PIL import Image
from torch import Tensor

import vallum
from command_line import command
from vallum.defences.defensive_patches import PatchSet, Ring
from vallum.defences.defensive_patches.printing.card import Card
from vallum.defences.defensive_patches.printing.photos import folder_names, read_photo
from vallum.defences.defensive_patches.printing.png import raster
from vallum.defences.defensive_patches.printing.press import sheet_of
from vallum.defences.defensive_patches.printing.rectify import find_cards, rectify
from vallum.errors import UserError

CLASSES = ("stop", "give way", "30/50")
EASY = Scene(width=960, height=960)
HARD = replace(EASY, blur=1.5, noise=0.03, quality=70, gradient=0.6)
DOTS = 1.2  # per millimetre


@pytest.fixture(scope="module")
def card() -> Card:
    colours = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    return Card.of(PatchSet(colours, Ring(30, 26).mask(32, 32), CLASSES, (32, 32)), 600)


@pytest.fixture(scope="module")
def sign() -> Tensor:
    return vallum.load_data("builtin:signs?n=4&split=test").batch([2]).images[0]


@pytest.fixture(scope="module")
def shown(card: Card, sign: Tensor) -> Image.Image:
    """The card of class 1 around a sign."""
    bare = raster(card.drawing(1, 1, CLASSES[1], trimmed=True), card.edge, DOTS)
    hole = tuple(edge * card.pixel for edge in (3, 3, 29, 29))
    return with_object(bare, card.edge, DOTS, hole, sign[:, 3:29, 3:29])  # type: ignore[arg-type]


def image_corners(card: Card) -> np.ndarray:
    _, _, right, bottom = card.image
    return np.array([(0, 0), (right, 0), (right, bottom), (0, bottom)])


@pytest.mark.parametrize(("base", "wide", "yaws", "limit"), [
    (EASY, 600, (0, 15, -30, 45), 0.5), (EASY, 300, (0, -15, 30, -45), 0.5),
    (HARD, 600, (0, -30, 45), 0.6), (HARD, 400, (0, 15, -30), 1.2),
])  # fmt: skip
def test_corners_are_found_to_a_part_of_a_pixel(
    base: Scene, wide: float, yaws: tuple[int, ...], limit: float, card: Card, shown: Image.Image
) -> None:
    sheet = sheet_of(card, {0: 0, 1: 1, 2: 2})
    for place, yaw in enumerate(yaws):
        scene = replace(base, yaw=yaw, pitch=6 * place - 8, roll=7 * place - 10, wide=wide, seed=place)
        found, why = find_cards(scene.photograph(shown, card.edge, DOTS), sheet)
        assert [one.card for one in found] == [1], (scene, why)
        off = found[0].photo_places(image_corners(card)) - scene.places(card.edge, image_corners(card))
        error = np.linalg.norm(off, axis=1).max()
        assert error < limit, (scene, error)
        # In millimetres too, and the card's own measure of it tells the order of magnitude without knowing the truth.
        assert error / found[0].side * card.image[2] < limit * 1000 / wide
        assert found[0].error < limit
        assert not found[0].bent(sheet)


def test_the_crop_is_the_image_that_a_model_would_have_seen(card: Card, shown: Image.Image, sign: Tensor) -> None:
    scene = Scene(yaw=35, pitch=-10, roll=8, wide=500, width=960, height=960, gradient=0, blur=0.5, noise=0.005)
    photo = scene.photograph(shown, card.edge, DOTS)
    sheet = sheet_of(card, {0: 0, 1: 1, 2: 2})
    crop = rectify(photo, sheet)
    true = card.patches.lay(sign[None], torch.tensor([1]))[0]
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[1:31, 1:31] = True  # beyond the ring the card is white
    assert float((crop - true).abs()[:, inside].mean()) < 0.03
    moved = torch.roll(true, 1, 2)
    assert float((crop - moved).abs()[:, inside].mean()) > 0.1
    large = rectify(photo, sheet, (128, 96))
    assert large.shape == (3, 128, 96)
    assert float((torch.nn.functional.adaptive_avg_pool2d(large, 32) - crop).abs().mean()) < 0.02


def test_a_turned_card_comes_out_upright(card: Card, shown: Image.Image) -> None:
    sheet = sheet_of(card, {1: 1})
    upright, upside_down = (
        rectify(Scene(roll=roll, wide=400, gradient=0, noise=0).photograph(shown, card.edge, DOTS), sheet)
        for roll in (0, 180)
    )
    assert float((upright - upside_down).abs().mean()) < 0.02


@pytest.mark.parametrize("barrel", [-0.06, 0.04])
def test_a_lens_that_distorts_is_seen_through(barrel: float, card: Card, shown: Image.Image) -> None:
    """Straight lines alone would put the corners several pixels from where they are."""
    sheet, scene = sheet_of(card, {1: 1}), replace(EASY, wide=640, yaw=25, barrel=barrel)
    found = find_cards(scene.photograph(shown, card.edge, DOTS), sheet)[0][0]
    off = found.photo_places(image_corners(card)) - scene.places(card.edge, image_corners(card))
    assert np.linalg.norm(off, axis=1).max() < 0.6
    assert found.lens.bend == pytest.approx(barrel, abs=0.01)
    assert not found.bent(sheet)


def test_bent_paper_is_told(card: Card, shown: Image.Image) -> None:
    photo = replace(EASY, wide=560).photograph(shown, card.edge, DOTS)
    for column in range(960):  # a cylinder that bulges upwards by 20 pixels
        photo[:, :, column] = photo[:, :, column].roll(round(20 * ((column - 480) / 280) ** 2), 1)
    sheet = sheet_of(card, {1: 1})
    assert find_cards(photo, sheet)[0][0].bent(sheet)


def test_what_a_photo_lacks_is_said(card: Card, shown: Image.Image) -> None:
    sheet = sheet_of(card, {1: 1})
    nothing, why = find_cards(torch.rand(3, 200, 200), sheet)
    assert nothing == []
    assert "no marker can be seen" in why[0]
    photo = replace(EASY, wide=400).photograph(shown, card.edge, DOTS)
    half = find_cards(photo[:, :, :480], sheet)
    assert "2 of the 4 markers" in half[1][0]
    assert not half[0]
    twice = find_cards(torch.cat([photo, photo], 2), sheet)
    assert "more than once" in twice[1][0]
    other = find_cards(photo, sheet_of(card, {2: 2}))
    assert "not on this sheet" in other[1][0]
    with pytest.raises(UserError, match="no marker"):
        rectify(torch.rand(3, 200, 200), sheet)


def test_three_markers_are_enough(card: Card, shown: Image.Image) -> None:
    photo = replace(EASY, wide=600).photograph(shown, card.edge, DOTS)
    photo[:, 600:, 600:] = 0.5  # something lies on the lower right corner
    found, _ = find_cards(photo, sheet_of(card, {1: 1}))
    off = found[0].photo_places(image_corners(card)) - replace(EASY, wide=600).places(card.edge, image_corners(card))
    assert found[0].markers == 3
    assert np.linalg.norm(off, axis=1).max() < 2


def test_folders_are_called_safely() -> None:
    names = folder_names(["a/b", "a-b", "..", "", "x\ny", "a-b-1"])
    assert len(set(names)) == 6
    assert all(name not in ("", ".", "..") and "/" not in name and name.isprintable() for name in names)


@pytest.fixture(scope="module")
def photos(card: Card, shown: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("photos")
    card.patches.save(at / "patches")
    for number in range(2):
        scene = Scene(yaw=20 * number, wide=400, seed=number)
        pixels = (scene.photograph(shown, card.edge, DOTS) * 255).round().byte().permute(1, 2, 0).numpy()
        (at / "shots").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(at / "shots" / f"{number}.jpg", quality=95)
    Image.new("RGB", (200, 200)).save(at / "shots" / "black.png")
    (at / "shots" / "broken.jpg").write_text("no photo")
    said = command("patch", "print", at / "patches", "--object-width", "60cm", "--out", at / "print")
    assert said.code == 0, said.err
    assert "patch 692.3 mm by 692.3 mm" in said.out
    assert "23.08 mm per pixel" in said.out
    assert "3 pages" in said.out
    return at


def test_photos_become_a_folder_that_can_be_evaluated(photos: Path, card: Card) -> None:
    call = ("patch", "rectify", photos / "shots", "--sheet", photos / "print", "--out", photos / "crops")
    said = command(*call)
    assert said.code == 0, said.err
    assert "2 images in" in said.out
    assert "black.png: no marker can be seen" in said.err
    assert "broken.jpg" in said.err
    assert command(*call).out == said.out  # the same again, and no picture twice
    data = vallum.load_data(f"folder:{photos / 'crops'}")
    assert len(data) == 2
    assert tuple(data.classes) == ("stop", "give way", "30-50")
    batch = data.batch(range(2))
    assert batch.labels.tolist() == [1, 1]
    assert batch.images.shape == (2, 3, 32, 32)
    other = command(*call[:-1], photos / "wrong", "--shows", "30/50", "--size", 64, "-q")
    assert other.code == 0, other.err
    wrong = vallum.load_data(f"folder:{photos / 'wrong'}").batch(range(2))
    assert wrong.labels.tolist() == [2, 2]
    assert wrong.images.shape == (2, 3, 64, 64)


def test_mistakes_with_photos_are_explained(photos: Path) -> None:
    black, out = photos / "shots" / "black.png", photos / "none"
    said = command("patch", "rectify", black, "--sheet", photos / "print", "--out", out)
    assert said.code == 2
    assert "each marker at least 20 pixels wide" in said.err
    assert "none of 1 photos shows a card" in said.err
    command("patch", "rectify", black, "--sheet", photos / "shots", "--out", out).refuses("describes no print")
    command("patch", "rectify", black, "--sheet", photos / "print", "--out", out, "--shows", "stopp").refuses(
        "did you mean stop"
    )
    command("patch", "print", photos / "shots", "--object-width", "1m", "--out", out).refuses("holds no patches")
    command("patch", "print", photos / "patches", "--object-width", "wide", "--out", out).refuses("no length")
    command("patch", "print", photos / "patches", "--object-width", "1m", "--page", "a9", "--out", out).refuses("paper")
    gone = command("patch", "rectify", photos / "gone.jpg", "--sheet", photos / "print", "--out", out)
    assert "gone.jpg cannot be read" in gone.err


def test_photos_are_read_upright_and_as_srgb(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 2), (255, 0, 0))
    exif = picture.getexif()
    exif[274] = 6  # turned by a quarter
    picture.save(tmp_path / "turned.png", exif=exif, icc_profile=b"no profile")
    read = read_photo(tmp_path / "turned.png")
    assert read.shape == (3, 4, 2)
    assert read[0].min() == 1
