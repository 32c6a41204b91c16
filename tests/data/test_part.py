"""A part of a data set is that part of it, read as the whole is."""

from __future__ import annotations

import pytest
import torch

from vallum.data import load_data
from vallum.data.part import Part
from vallum.errors import UserError


@pytest.mark.parametrize("spec", ["builtin:signs?n=30&size=16", "arrays"])
def test_a_part_shows_the_whole_under_numbers_of_its_own(spec: str) -> None:
    images = torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = load_data((images, torch.arange(30) % 3)) if spec == "arrays" else load_data(spec)
    part = Part(whole, [7, 3, 28], "some")
    assert len(part) == 3
    batch, same = part.batch([2, 0]), whole.batch([28, 7])
    assert torch.equal(batch.images, same.images)
    assert torch.equal(batch.labels, same.labels)
    assert batch.keys.tolist() == [2, 0]
    assert batch.names == same.names == [part.name(2), part.name(0)]
    assert torch.equal(part.read(1)[0], whole.read(3)[0])
    assert part.identity(1) == whole.identity(3)
    with pytest.raises(UserError, match="not there"):
        Part(whole, [30], "beyond")
