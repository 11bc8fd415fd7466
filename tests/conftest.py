import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests import devices  # before any backward pass, at which torch counts its devices

torch.set_default_device("cpu")
# How long a test takes is no property of what it tests, and the same code passes or fails the same tests every time.
# `pytest --hypothesis-profile=search` looks for inputs that were not tried before.
settings.register_profile("linegraph", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile("linegraph")


def pytest_collection_modifyitems(items):
    """The example of what needs an extra is run where that is installed."""
    try:
        import curvlinops  # noqa: F401
    except ImportError as error:
        missing = pytest.mark.skip(reason=f"curvlinops-for-pytorch is not installed: {error}")
        for item in items:
            if item.name == "linegraph.dynamics.training.trained_equilibrium":
                item.add_marker(missing)


@pytest.fixture(scope="session")
def shared():
    """Reference values and real data that live beside the repository."""
    path = Path(os.environ.get("LINEGRAPH_SHARED", Path(__file__).parents[2] / "shared"))
    if not path.is_dir():
        pytest.skip(f"the folder of reference values {path} is absent; name another with LINEGRAPH_SHARED")
    return path


@pytest.fixture(params=["simulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    """Each device other than the host."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        yield torch.device("cuda", 0)
    else:
        if not devices.CAN_SIMULATE:
            pytest.skip("there is a GPU, or this torch has no devices written in Python")
        with devices.Simulation():
            yield devices.SIMULATED


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium without a window; it is not the browser that Playwright would download."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if path is None:
        pytest.skip("there is no Chromium; Debian's package is chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
