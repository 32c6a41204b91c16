from pathlib import Path

import pytest
from noisy_toys import HARDENING, SETTINGS, Slopes, convolutional

import vallum
from vallum.defences import De3


@pytest.fixture(scope="session")
def hardened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small defence that was pre-trained and fine-tuned."""
    out = tmp_path_factory.mktemp("hardened")
    vallum.train(convolutional(), Slopes(1200), HARDENING, out=out, **SETTINGS)  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="session")
def defence(hardened: Path) -> De3:
    model = vallum.load_model(hardened)
    assert isinstance(model, De3)
    return model
