import pytest
import torch
from threadpoolctl import threadpool_info

from linegraph.cli.threads import SMALL, limited, number_of_threads


@pytest.fixture
def unset(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("unset")
def test_small_networks_take_one_thread_and_large_ones_the_cores_that_are_allowed(monkeypatch):
    assert number_of_threads(None, SMALL - 1) == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr("joblib.cpu_count", lambda: 6)
    assert number_of_threads(None, SMALL) == 6
    assert number_of_threads(None, float("inf")) == 6
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert number_of_threads(None, SMALL) == 3


def test_what_the_user_sets_is_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert number_of_threads(None, 10) is None
    assert number_of_threads(2, 10) == 2
    before = torch.get_num_threads()
    with limited(None, 10):
        assert torch.get_num_threads() == before


@pytest.mark.usefixtures("unset")
def test_the_limit_holds_for_torch_and_blas_and_ends(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with limited(None, 10):
            assert torch.get_num_threads() == 1
            assert {found["num_threads"] for found in threadpool_info()} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
