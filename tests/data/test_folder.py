"""The user's own pictures, in a folder or in a zip."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vallum.data import Data, load_data
from vallum.errors import UserError
from vallum.images import Task

Save = Callable[..., Path]
Zipped = Callable[[Path], Path]


def names(data: Data) -> list[str]:
    return [data.name(index) for index in range(len(data))]


def same(one: Data, other: Data) -> bool:
    everything = range(len(one))
    pixels = all(torch.equal(a, b) for i in everything for a, b in zip(one.read(i), other.read(i), strict=True))
    return names(one) == names(other) and pixels and one.fingerprint(everything) == other.fingerprint(everything)


def test_class_folders(photos: Path) -> None:
    data = load_data(f"folder:{photos}")
    batch = data.batch([2, 0])
    assert (data.task, data.classes, len(data)) == (Task.CLASSIFY, ("cat", "dog"), 3)
    assert names(data) == ["cat/a.png", "cat/deep/b.png", "dog/c.png"]
    assert (batch.keys.tolist(), batch.labels.tolist(), batch.names) == ([2, 0], [1, 0], ["dog/c.png", "cat/a.png"])
    pixels = np.array(Image.open(photos / "dog" / "c.png"))
    assert torch.equal(batch.images[0], torch.from_numpy(pixels).permute(2, 0, 1) / 255)


def test_pairs_of_images_and_masks(pairs: Path) -> None:
    data = load_data(str(pairs))
    batch = data.batch([0, 1])
    assert (data.task, data.classes) == (Task.SEGMENT, ("0", "1", "2"))
    assert batch.images.shape == (2, 3, 8, 6)
    assert data.spec == f"folder:{pairs}?classes=3"  # counted once
    assert torch.equal(batch.labels[1], torch.from_numpy(np.array(Image.open(pairs / "masks" / "b.png"))).long())
    assert data.read(1)[1].unique().tolist() == [0, 2, 255]


def test_classes_txt_names_and_orders(photos: Path, pairs: Path) -> None:
    (photos / "classes.txt").write_text("dog\n\ncat\nbird\n")
    data = load_data(photos)
    assert data.classes == ("dog", "cat", "bird")
    assert data.batch(range(3)).labels.tolist() == [1, 1, 0]
    (pairs / "classes.txt").write_text("sky\nroad\ncar\ntree\n")
    assert load_data(pairs).classes == ("sky", "road", "car", "tree")


def test_classes_said_go_before_classes_written(photos: Path) -> None:
    (photos / "classes.txt").write_text("cat\ndog\n")
    assert load_data(photos, classes=["dog", "cat"]).batch(range(3)).labels.tolist() == [1, 1, 0]
    assert load_data(f"{photos}?classes=bird,cat,dog").batch(range(3)).labels.tolist() == [1, 1, 2]


def test_numbers_are_sorted_as_numbers(save: Save, tmp_path: Path) -> None:
    for name in ("10", "9", "0"):
        save(f"d/{name}/x.png")
    data = load_data(tmp_path / "d")
    assert data.classes == ("0", "9", "10")
    assert [data.classes[data.read(i)[1]] for i in range(3)] == [data.name(i).split("/")[0] for i in range(3)]


def test_one_folder_that_holds_it_all_is_looked_through(photos: Path, pairs: Path, zipped: Zipped) -> None:
    for inner, classes in ((photos, ("cat", "dog")), (pairs, ("0", "1", "2"))):
        outer = inner.parent / "outer" / "2024"
        outer.mkdir(parents=True)
        inner.rename(outer / inner.name)
        data = load_data(zipped(inner.parent / "outer"))
        assert data.classes == classes
        assert names(data)[0].startswith(f"2024/{inner.name}/")
        (outer / inner.name).rename(inner)
        outer.rmdir()
        outer.parent.rmdir()


def test_one_class_is_a_class(save: Save, tmp_path: Path) -> None:
    save("d/cat/x.png")
    save("e/cat/deep/x.png")
    assert load_data(tmp_path / "d").classes == ("cat",)
    assert load_data(tmp_path / "e", classes=["dog", "cat"]).read(0)[1] == 1


def test_what_is_no_picture_is_passed_over(photos: Path, zipped: Zipped) -> None:
    before = names(load_data(photos))
    (photos / ".git").mkdir()
    for name in (".DS_Store", "cat/Thumbs.db", "README.md", "dog/._c.png", ".git/x.png"):
        (photos / name).write_bytes(b"no picture")
    (photos / "__MACOSX" / "cat").mkdir(parents=True)
    assert names(load_data(zipped(photos))) == before
    (photos / "__MACOSX" / "cat").rmdir()
    (photos / "__MACOSX").rmdir()
    assert names(load_data(photos)) == before


@given(
    tree=st.dictionaries(
        st.tuples(st.sampled_from(["cat", "dog", "1", "ä b", "<i>"]), st.text("ab.é&\n\x1b", min_size=1, max_size=6)),
        st.integers(0, 255),
        min_size=1,
        max_size=6,
    ),
    size=st.sampled_from([None, 5]),
)
@settings(max_examples=30)
def test_a_zip_is_its_folder(tree: dict[tuple[str, str], int], size: int | None) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for (folder, name), grey in tree.items():
            (root / "d" / folder).mkdir(parents=True, exist_ok=True)
            Image.new("L", (3, 4), grey).save(root / "d" / folder / f"x{name}.png")
        with zipfile.ZipFile(root / "d.zip", "w") as archive:
            for path in (root / "d").rglob("*"):
                archive.write(path, path.relative_to(root / "d"))
        one, other = load_data(root / "d", size=size), load_data(root / "d.zip", size=size)
        assert one.classes == other.classes
        assert same(one, other)
        assert same(one, load_data(one.spec))


def test_masks_in_a_zip(pairs: Path, zipped: Zipped) -> None:
    assert same(load_data(pairs), load_data(zipped(pairs)))


def test_names_survive_as_they_are(save: Save, tmp_path: Path) -> None:
    hostile = ["<script>alert(1)</script>".replace("/", "|"), "\x1b[31mred", "two\nlines", "a?b&c=d%41", "caf\u00e9"]
    for name in hostile:
        save(f"d/cat/{name}.png")
    data = load_data(tmp_path / "d", on_error="skip")
    assert sorted(names(data)) == sorted(f"cat/{name}.png" for name in hostile)
    assert len(data.batch(range(len(data)))) == len(hostile)
    assert not data.skipped


def test_a_name_that_is_no_text_can_still_be_written(photos: Path) -> None:
    os.rename(photos / "dog", os.fsencode(photos) + b"/caf\xe9")
    data = load_data(photos)
    assert data.classes == ("caf\\xe9", "cat")
    assert (data.name(0), data.fingerprint([0]).isalnum()) == ("caf\\xe9/c.png", True)
    assert data.batch(range(3)).labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", ["a?b", "50%", "a%20b", "a:b", "a&size=3", "ä"])
def test_a_path_may_hold_anything_and_its_spec_loads_it_again(photos: Path, name: str) -> None:
    odd = photos.rename(photos.parent / name)
    data = load_data(odd, size=4, on_error="skip", classes=["cat", "dog"])
    again = load_data(data.spec)
    assert same(data, again)
    assert (again.spec, again.classes, again.on_error) == (data.spec, data.classes, "skip")


def test_the_identity_follows_the_content(photos: Path, pairs: Path, save: Save) -> None:
    for root, changed in ((photos, "photos/dog/c.png"), (pairs, "pairs/masks/a.png")):
        before, sized = load_data(root).fingerprint([0]), load_data(root, size=4).fingerprint([0])
        everything = load_data(root).fingerprint(range(2 if root == pairs else 3))
        assert before != sized
        save(changed, np.full((8, 6), 1, np.uint8))
        assert load_data(root).fingerprint(range(2 if root == pairs else 3)) != everything
    assert load_data(photos).fingerprint([0]) != load_data(photos, classes=["dog", "cat"]).fingerprint([0])


def test_a_data_set_pickles_small_and_reads_nothing_ahead(photos: Path, pairs: Path, zipped: Zipped) -> None:
    for source in (photos, zipped(photos), pairs, zipped(pairs)):
        data = load_data(source)
        fresh = pickle.dumps(data)
        before = data.batch(range(len(data)))
        assert len(pickle.dumps(data)) == len(fresh)  # nothing was kept
        after = pickle.loads(fresh).batch(range(len(data)))
        assert torch.equal(before.images, after.images)
        assert torch.equal(before.labels, after.labels)


def _first_label(data: Data, answers: multiprocessing.Queue) -> None:
    answers.put([data.read(index)[0].sum().item() for index in range(len(data))])


def test_an_open_zip_survives_a_fork(photos: Path, zipped: Zipped) -> None:
    data = load_data(zipped(photos))
    sums = [data.read(index)[0].sum().item() for index in range(len(data))]  # it is open now
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [context.Process(target=_first_label, args=(data, answers)) for _ in range(3)]
    for child in children:
        child.start()
    assert [answers.get(timeout=60) for _ in children] == [sums] * 3
    for child in children:
        child.join()


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        (lambda root: (root / "loose.png").write_bytes(b""), {}, "loose.png lies in no class folder"),
        (lambda root: None, {"task": "segment"}, "no images/ with masks/"),
        (lambda root: (root / "dog").rename(root / "masks") and (root / "cat").rename(root / "images"), {}, "no mask"),
        (lambda root: [path.unlink() for path in root.rglob("*.png")], {}, "holds no pictures"),
        (lambda root: None, {"classes": ["cats", "dog"]}, "did you mean cats"),
    ],
)
def test_a_layout_that_is_wrong(photos: Path, prepare: Callable, options: dict, message: str) -> None:
    prepare(photos)
    with pytest.raises(UserError, match=message):
        load_data(photos, **options)


def test_images_without_masks(save: Save, tmp_path: Path) -> None:
    save("d/images/a.png")
    with pytest.raises(UserError, match=r"images/ without masks/.*add the masks"):
        load_data(tmp_path / "d")


def test_masks_of_nought_and_255_are_no_classes(save: Save, tmp_path: Path) -> None:
    save("d/images/a.png")
    save("d/masks/a.png", np.where(np.arange(48).reshape(8, 6) > 9, 255, 0).astype(np.uint8))
    with pytest.raises(UserError, match="write 1 for the object"):
        load_data(tmp_path / "d")


def test_train_and_test_are_no_classes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / split / name / "0.png")
    with pytest.raises(UserError, match=rf"holds test/ and train/.*folder:{tmp_path}/test"):
        load_data(f"folder:{tmp_path}")
    assert load_data(f"folder:{tmp_path}?classes=test,train").classes == ("test", "train")
    assert load_data(f"folder:{tmp_path}/test").classes == ("cat", "dog")
