"""Blocks of edges against the dense matrix of the graph."""

import pytest
import torch

import linegraph as lg
from linegraph.dynamics import edges as edges_module
from linegraph.dynamics.edges import blocks_of
from tests.comparison import close


@pytest.fixture(params=[True, False], ids=["sums by a matrix", "sums by edge"])
def by_matrix(request, monkeypatch):
    monkeypatch.setattr(edges_module, "SUMMED_BY_MATRIX", 0 if request.param else 1 << 30)
    return request.param and torch.backends.mkl.is_available()


def graph(dtype=torch.float64):
    """A node that receives from all others, parallel edges, loops, edges of weight 0 and nodes without edges."""
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(20, (2, 60), generator=generator)
    edges = torch.cat([edges, torch.stack([torch.arange(30), torch.full((30,), 7)])], 1)
    weight = torch.randn(90, generator=generator, dtype=dtype)
    weight[::9] = 0
    return lg.GraphCoupling(edges, weight, num_nodes=40)


@pytest.mark.parametrize("size", [1, 10, 29, 30, 31, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_over_blocks_equal_products(size, dtype, by_matrix, monkeypatch):
    monkeypatch.setattr(edges_module, "BLOCK", size)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    P, tolerance = graph(dtype), 1e-12 if dtype == torch.float64 else 1e-5
    v = torch.rand(40, dtype=dtype, generator=torch.Generator().manual_seed(1))
    received, sent = torch.zeros(2, 40, dtype=dtype)
    blocks = blocks_of(P)
    assert max(len(block.weight) for block in blocks) <= size
    assert all((block.matrix is not None) == by_matrix for block in blocks)
    for block in blocks:
        receivers, senders = block.ends(v)
        block.add_received(received, senders)
        block.add_sent(sent, receivers)
    close(received, P.to_dense() @ v, tolerance)
    close(sent, P.to_dense().T @ v, tolerance)


def test_blocks_share_the_memory_of_the_graph():
    P = graph()
    (block,) = blocks_of(P)
    assert [part.data_ptr() for part in (block.sources, block.targets, block.weight)] == [
        part.data_ptr() for part in P.by_target
    ]
    assert block.rows == slice(int(block.targets[0]), int(block.targets[-1]) + 1)


def test_values_on_edges_of_weight_0_are_left_out():
    (block,) = blocks_of(graph())
    endless = torch.full_like(block.weight, torch.inf)
    assert block.has_zeros
    assert torch.equal(block.without_zeros(endless) == 0, block.weight == 0)
    (whole,) = blocks_of(lg.GraphCoupling(torch.tensor([[0], [1]])))
    assert not whole.has_zeros
    assert blocks_of(lg.GraphCoupling(torch.zeros(2, 0).long(), num_nodes=3)) == []
