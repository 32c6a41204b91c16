"""Every kind of picture against what its pixels are known to be, and resizing against torchvision."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vallum.data import BrokenImageError, load_data
from vallum.data.decoding import as_mask, as_planes, as_tensor
from vallum.data.sizing import crop_to, stretch_mask, stretch_to
from vallum.torchvision_shim import ensure_torchvision

RAMP = np.arange(0, 252, 3, dtype=np.uint8).reshape(4, 7, 3)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def decoded(content: object, channels: int | None = 3) -> torch.Tensor:
    return as_tensor(as_planes(content, "x.png"), channels)


def expected(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32) / np.float32(255)).permute(2, 0, 1)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_lossless_formats_give_their_pixels(kind: str) -> None:
    content = encoded(Image.fromarray(RAMP), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert torch.equal(decoded(content), expected(RAMP))


def test_grey_becomes_three_equal_channels_or_stays_one() -> None:
    grey = encoded(Image.fromarray(RAMP[..., 0]))
    assert torch.equal(decoded(grey), expected(RAMP[..., :1]).repeat(3, 1, 1))
    assert torch.equal(decoded(grey, 1), expected(RAMP[..., :1]))


def test_colour_becomes_grey_by_its_luminance() -> None:
    luminance = np.asarray(Image.fromarray(RAMP).convert("L")).astype(np.float32) / 255
    assert torch.allclose(decoded(encoded(Image.fromarray(RAMP)), 1)[0], torch.from_numpy(luminance), atol=0.6 / 255)


def test_transparency_is_dropped_and_the_colour_under_it_kept() -> None:
    transparent = np.concatenate([RAMP, np.zeros((4, 7, 1), np.uint8)], 2)
    assert torch.equal(decoded(encoded(Image.fromarray(transparent))), expected(RAMP))


def test_palette_bilevel_and_four_colour_pictures() -> None:
    palette = Image.fromarray(RAMP).quantize(16)
    assert torch.equal(decoded(encoded(palette)), expected(np.asarray(palette.convert("RGB"))))
    bilevel = Image.fromarray(RAMP[..., 0] > 100)
    assert torch.equal(decoded(encoded(bilevel))[0], torch.from_numpy(RAMP[..., 0] > 100).float())
    cmyk = Image.fromarray(RAMP).convert("CMYK")
    assert torch.equal(decoded(encoded(cmyk, "TIFF")), expected(np.asarray(cmyk.convert("RGB"))))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_kept(kind: str) -> None:
    deep = np.array([[0, 1, 256], [1000, 65534, 65535]], np.uint16)
    image = decoded(encoded(Image.fromarray(deep), kind))
    assert torch.equal(image[0], torch.from_numpy(deep.astype(np.float32) / 65535))
    assert torch.equal(image[0], image[2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decoded(encoded(Image.fromarray(RAMP), exif=exif))
    assert torch.equal(image, expected(turns[orientation](RAMP)))


def test_arrays_and_tensors_mean_the_same_however_their_axes_lie() -> None:
    last = RAMP
    first = np.ascontiguousarray(RAMP.transpose(2, 0, 1))
    for form in (last, first, torch.from_numpy(last), torch.from_numpy(first), expected(RAMP), expected(RAMP).double()):
        assert torch.equal(decoded(form, None), expected(RAMP))
    assert decoded(RAMP[..., 0], None).shape == (1, 4, 7)
    assert decoded(torch.zeros(3, 4, 4), None).shape == (3, 4, 4)  # four pixels wide, not four channels
    assert decoded(np.zeros((4, 7, 4), np.uint8), None).shape == (4, 4, 7)


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (np.full((4, 7, 3), 200.0), "divide them by 255"),
        (np.full((4, 7, 3), -1.5), "take the normalisation out"),
        (np.full((4, 7, 3), np.nan), "check the loader"),
        (np.zeros((4, 7, 3), np.int64), "images / 255"),
        (np.zeros((8, 7, 5), np.uint8), "move its axes"),
        (np.zeros((2, 4, 7, 3), np.uint8), "move its axes"),
        ("a string", "mend the data set"),
    ],
)
def test_what_is_no_picture_is_told_what_it_lacks(array: object, remedy: str) -> None:
    with pytest.raises(BrokenImageError, match=remedy):
        as_planes(array, "item 3")


def test_a_mask_keeps_its_numbers() -> None:
    numbers = np.array([[0, 1, 255], [300, 7, 65535]])
    deep = Image.fromarray(numbers.astype(np.uint16))
    assert np.array_equal(as_mask(encoded(deep), "m.png"), numbers)
    palette = Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8))
    palette.putpalette(list(range(255, -1, -1)) * 3)
    assert palette.mode == "P"
    assert np.array_equal(as_mask(encoded(palette), "m.png"), [[0, 1], [2, 255]])
    assert np.array_equal(as_mask(torch.tensor([[[1, 2]]]), "m"), [[1, 2]])


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (31, 97), (20, 20), (200, 37)])
def test_cropping_agrees_with_torchvision(height: int, width: int) -> None:
    ensure_torchvision()
    from torchvision import transforms

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    theirs = transforms.Compose(
        [
            transforms.Resize(32, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
        ]
    )(picture)
    assert torch.equal(as_tensor(crop_to(as_planes(picture, "x"), (32, 32), "x"), 3), theirs)
    stretched = transforms.functional.resize(picture, [24, 48], transforms.InterpolationMode.BILINEAR)
    ours = as_tensor(stretch_to(as_planes(picture, "x"), (24, 48)), 3)
    assert torch.equal(ours, transforms.functional.to_tensor(stretched))


@given(
    old=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    new=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@settings(max_examples=40)
def test_any_size_is_reached_and_floats_stay_in_range(old: tuple[int, int], new: tuple[int, int]) -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (3, *old)).astype(np.float32))
    for planes in (crop_to(as_planes(image, "x"), new, "x"), stretch_to(as_planes(image, "x"), new)):
        sized = as_tensor(planes, None)
        assert sized.shape == (3, *new)
        assert sized.min() >= 0
        assert sized.max() <= 1
    mask = np.arange(old[0] * old[1]).reshape(old)
    rows, columns = ([(2 * i + 1) * o // (2 * n) for i in range(n)] for o, n in zip(old, new, strict=True))
    assert stretch_mask(mask, new).tolist() == [[mask[row, column] for column in columns] for row in rows]


def test_a_picture_too_narrow_to_be_cropped_is_refused_before_it_fills_the_memory() -> None:
    sliver = [Image.new("L", (60_000, 1))]
    with pytest.raises(BrokenImageError, match="too narrow"):
        crop_to(sliver, (224, 224), "sliver.png")


def test_a_segmenters_image_and_mask_are_stretched_together(pairs: Path) -> None:
    image, mask = load_data(pairs, size="16x24").read(0)
    assert image.shape == (3, 16, 24)
    whole = load_data(pairs).read(0)[1]
    assert torch.equal(mask, whole.repeat_interleave(2, 0).repeat_interleave(4, 1))


def test_a_size_makes_one_batch_of_different_pictures(save: Callable[..., Path], tmp_path: Path) -> None:
    save("d/a/1.png", np.zeros((8, 6, 3), np.uint8))
    save("d/b/2.png", np.zeros((9, 20, 3), np.uint8))
    with pytest.raises(ValueError, match="give one size"):
        load_data(tmp_path / "d").batch([0, 1])
    assert load_data(f"folder:{tmp_path}/d?size=5x7").batch([0, 1]).images.shape == (2, 3, 5, 7)
