"""Data made in Python."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from vallum.data import BrokenImageError, Data, load_data
from vallum.errors import UserError
from vallum.images import Task

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 5, 3), np.uint8)
LABELS = [0, 1, 2, 2, 1, 0]
FORMS: dict[str, Callable[[int], object]] = {
    "Pillow": lambda i: Image.fromarray(PIXELS[i]),
    "array": lambda i: PIXELS[i],
    "float tensor": lambda i: torch.from_numpy(PIXELS[i]).permute(2, 0, 1) / 255,
    "byte tensor": lambda i: torch.from_numpy(PIXELS[i]).permute(2, 0, 1),
}


class Toy(Dataset):
    def __init__(self, form: str = "array", broken: tuple[int, ...] = ()) -> None:
        self.form, self.broken = form, broken

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, index: int) -> tuple[object, int]:
        if index in self.broken:
            raise OSError("disk on fire")
        return FORMS[self.form](index), LABELS[index]


class Stream(IterableDataset):
    def __iter__(self) -> object:
        return iter([])


class Restless(Toy):
    def __getitem__(self, index: int) -> tuple[object, int]:
        return torch.rand(3, 8, 5), 0


class Odd(Toy):
    """Whatever the constructor is given is each item."""

    def __init__(self, item: object) -> None:
        self.item = item

    def __getitem__(self, index: int) -> object:
        return self.item


@pytest.mark.parametrize("form", FORMS)
def test_items_of_every_form(form: str) -> None:
    data = load_data(Toy(form))
    batch = data.batch([4, 2])
    assert torch.equal(batch.images, torch.from_numpy(PIXELS[[4, 2]]).permute(0, 3, 1, 2) / 255)
    assert (batch.labels.tolist(), data.classes, data.spec) == ([1, 2], ("0", "1", "2"), "python:Toy")
    assert data.fingerprint(range(6)) == load_data(Toy("array")).fingerprint(range(6))
    assert torch.equal(pickle.loads(pickle.dumps(data)).batch([4, 2]).images, batch.images)


def test_masks() -> None:
    masks = torch.randint(0, 3, (6, 8, 5))
    masks[0, 0, 0] = 255
    items = [(PIXELS[i], Image.fromarray(masks[i].numpy().astype(np.uint8))) for i in range(6)]
    for data in (load_data(items), load_data((torch.from_numpy(PIXELS), masks[:, None]))):
        assert (data.task, data.classes) == (Task.SEGMENT, ("0", "1", "2"))
        assert torch.equal(data.batch(range(6)).labels, masks)


def test_a_loader_stands_for_its_dataset_in_its_own_order() -> None:
    loader = DataLoader(Toy("float tensor"), batch_size=4, shuffle=True)
    data = load_data(loader)
    assert (data.batch(range(6)).labels.tolist(), data.spec) == (LABELS, "python:DataLoader")


def test_tensors_arrays_and_tensor_datasets_agree() -> None:
    images, labels = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255, torch.tensor(LABELS)
    expected = load_data((images, labels)).batch(range(6))
    for source in ((PIXELS, np.array(LABELS)), TensorDataset(images, labels), list(zip(images, LABELS, strict=True))):
        found = load_data(source).batch(range(6))
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.labels, expected.labels)


def test_one_channel_stays_one_channel() -> None:
    assert load_data((torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))).read(0)[0].shape == (1, 8, 8)
    assert load_data([(Image.new("L", (8, 8)), 0)], classes=2).read(0)[0].shape == (3, 8, 8)


def test_mappings() -> None:
    data = load_data([{"pixel_values": PIXELS[i], "labels": LABELS[i], "extra": None} for i in range(6)])
    assert data.batch(range(6)).labels.tolist() == LABELS


def test_classes_come_from_the_dataset_even_through_a_subset() -> None:
    toy = Toy()
    toy.classes = [("tench", "Tinca tinca"), ("shark",), ("ray",), ("cock",)]
    assert load_data(Subset(toy, [0, 1])).classes == ("tench", "shark", "ray", "cock")
    bare = Toy()
    bare.targets = [*LABELS, 6]
    assert load_data(bare).classes == tuple("0123456")
    assert load_data(toy, classes=["a", "b", "c"]).classes == ("a", "b", "c")


def test_a_broken_item_is_named_or_left_out() -> None:
    with pytest.raises(BrokenImageError, match=r"item 3 of Toy cannot be read \(OSError: disk on fire\)"):
        load_data(Toy(broken=(3,)))
    data = load_data(Toy(broken=(0, 3)), on_error="skip")
    assert data.batch(range(6)).keys.tolist() == [1, 2, 4, 5]
    assert sorted(data.skipped) == ["0", "3"]
    spoilt = [(PIXELS[i] * (1.0 if i == 0 else 1), LABELS[i]) for i in range(6)]  # the first in 0..255 as floats
    assert load_data(spoilt, on_error="skip").batch(range(6)).keys.tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(UserError, match="no item of Toy can be read"):
        load_data(Toy(broken=tuple(range(6))), on_error="skip")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Stream(), r"a Stream cannot be read by place.*a list of \(image, label\)"),
        (DataLoader(Stream()), "a Stream cannot be read by place"),
        (iter([(PIXELS[0], 0)]), "cannot be read by place"),
        (12, "an int cannot be read by place"),
        ([], "list is empty"),
        (Restless(), "take the random augmentation out"),
        (Odd(PIXELS[0]), "return that, or a dict with image and label"),
        (Odd({"image": PIXELS[0], "caption": "a cat"}), "return that, or a dict with image and label"),
        (Odd((PIXELS[0] * 1.0, 0)), "divide them by 255"),
        (Odd((torch.randn(3, 8, 5, generator=torch.manual_seed(0)), 0)), "take the normalisation out of the data"),
        (Odd((PIXELS[0], "cat")), "one whole number, the class"),
        (Odd((PIXELS[0], [0.0, 1.0])), "one whole number, the class"),
        (Odd((PIXELS[0], np.zeros((8, 5)))), "give each pixel the number of its class"),
    ],
)
def test_what_cannot_be_used(source: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_data(source)


def test_data_is_taken_as_it_is() -> None:
    data = load_data(Toy())
    assert load_data(data) is data
    assert load_data(data, classes=["a", "b", "c"]).classes == ("a", "b", "c")
    assert data.classes == ("0", "1", "2")
    tolerant = load_data(data, on_error="skip")
    assert (tolerant.on_error, data.on_error) == ("skip", "stop")
    for options, message in (
        ({"size": 4}, "say it where it is loaded"),
        ({"task": "segment"}, "task=segment was asked for"),
        ({"classes": 2}, "name them all, in the order of the labels"),
    ):
        with pytest.raises(UserError, match=message):
            load_data(data, **options)


def test_skipping_works_for_any_source_that_raises() -> None:
    class Fragile(Data):
        task, classes, spec = Task.CLASSIFY, ("a",), "fragile"

        def __len__(self) -> int:
            return 3

        def read(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            if index == 1:
                raise BrokenImageError("image 1 is broken")
            return torch.zeros(3, 2, 2), torch.tensor(0)

        def identity(self, index: int) -> bytes:
            return bytes([index])

    with pytest.raises(BrokenImageError):
        Fragile().batch(range(3))
    data = load_data(Fragile(), on_error="skip")
    assert data.batch(range(3)).keys.tolist() == [0, 2]
    assert data.skipped == {"1": "image 1 is broken"}
    assert copy.deepcopy(data).skipped == data.skipped
