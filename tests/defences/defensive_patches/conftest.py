from __future__ import annotations

import pytest
from patch_toys import toy_model

from vallum.models import Model


@pytest.fixture(scope="session")
def toy_nets() -> list[Model]:
    return [toy_model(0), toy_model(1, width=8)]
