from pathlib import Path

import pytest
from repair_toys import BUILD, SETTINGS, THREE, Suns, network

import vallum
from vallum.defences import SelfSupervised


@pytest.fixture(scope="session")
def hardened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repair whose heads were trained on a network that had learnt its task."""
    plain, out = (tmp_path_factory.mktemp(name) for name in ("plain", "hardened"))
    network_settings = {**SETTINGS, "lr": 0.01, "epochs": 5}
    model = vallum.train(network(), Suns(600), "plain", out=plain, build=BUILD, **network_settings)  # type: ignore[arg-type]
    vallum.harden(model, Suns(480), f"self_supervision:tasks={THREE}", out=out, **SETTINGS)  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="session")
def defence(hardened: Path) -> SelfSupervised:
    model = vallum.load_model(hardened, trust=True)
    assert isinstance(model, SelfSupervised)
    return model
