import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_default_device("cpu")
settings.register_profile("linegraph", deadline=None)  # how long a test takes is no property of what it tests
settings.load_profile("linegraph")


@pytest.fixture(scope="session")
def shared():
    """Reference values and real data that live beside the repository."""
    path = Path(os.environ.get("LINEGRAPH_SHARED", Path(__file__).parents[2] / "shared"))
    if not path.is_dir():
        pytest.skip(f"the folder of reference values {path} is absent; name another with LINEGRAPH_SHARED")
    return path


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
