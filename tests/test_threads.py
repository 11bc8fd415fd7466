"""Graphs, metrics and dynamics on several threads, which share what is made when it is first asked for."""

import os
import random
import stat
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from linegraph.files import write_whole
from tests.comparison import close
from tests.coupling.test_threads import process_wide
from tests.side_by_side import Meeting, side_by_side

THREADS = 4


def graph(n=300, edges=2000, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(0, n, (2, edges), generator=generator)
    return lg.GraphCoupling(ends, torch.rand(edges, generator=generator, dtype=dtype) + 0.1, num_nodes=n)


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    data = torch.randn(8, 4).double(), torch.randint(0, 3, (8,))
    return lg.NeuralCoupling(model, F.cross_entropy, data, kind="magnitude")


def energy():
    P = network()
    return lg.NeuralCoupling(P._model, P.passes._loss_fn, P.passes.readings.data, kind="energy", probes=4)


def figures(found):
    """All numbers of a result."""
    if isinstance(found, pd.DataFrame):
        found = np.nan_to_num(found.select_dtypes("number").to_numpy())
    if isinstance(found, torch.Tensor | np.ndarray | float | int):
        return torch.as_tensor(found).detach().double().flatten()
    parts = found if isinstance(found, tuple | list) else vars(found).values()
    return torch.cat([figures(part) for part in parts if not isinstance(part, str | type(None) | lg.GraphCoupling)])


ON_ANY = {
    "products": lambda P: [P @ torch.ones(P.num_nodes, dtype=P.dtype), P.T @ torch.ones(P.num_nodes, dtype=P.dtype)],
    "strengths": lambda P: [P.in_strength(), P.out_strength()],
    "components": lambda P: [P.row_components(), P.column_components(), P.num_edges],
    "capacitance": lambda P: list(lg.capacitance(P).as_dict().values()),
    "katz": lambda P: lg.katz(P, alpha=1e-3),
    "pagerank": lg.pagerank,
    "hits": lambda P: list(vars(lg.hits(P)).values()),
    "singular values": lambda P: lg.singular_values(P, 3),
    "communities": lambda P: [lg.communities(P).labels, lg.communities(P).modularity],
    "diagnose": lg.diagnose,
    "explicit": lambda P: [(P.to_graph() if isinstance(P, lg.NeuralCoupling) else P).to_scipy_sparse().data],
    "line graph": lambda P: [lg.line_graph(P).edge_index],
}


@pytest.mark.parametrize("make", [graph, network, energy])
@pytest.mark.parametrize("name", ON_ANY)
def test_one_coupling(name, make):
    """Each thread asks a fresh coupling for the same at once."""
    work = ON_ANY[name]
    if make is energy and name in ("components", "hits", "singular values", "line graph"):
        pytest.skip("as of any network")
    expected = figures(work(make()))
    before = process_wide()
    P = make()
    for found in side_by_side(*[lambda: figures(work(P))] * THREADS):
        close(found, expected, 1e-7)
    assert process_wide() == before


def test_parts_of_one_capacitance():
    """The first to ask lets go of the coupling; the others may have it in hand."""
    for P in (graph(), network()):
        expected = lg.capacitance(P).as_dict()
        for _ in range(5):
            found = lg.capacitance(P)
            for one in side_by_side(*[found.as_dict] * THREADS):
                assert one == pytest.approx(expected)


def test_a_large_graph_and_its_transpose():
    """Whose matrices for products are made when the first one is asked for."""
    G = graph(2000, 20_000, torch.float32)
    expected = G @ torch.ones(2000), G.T @ torch.ones(2000)
    fresh = graph(2000, 20_000, torch.float32)
    T = fresh.T
    works = [lambda: fresh @ torch.ones(2000), lambda: T @ torch.ones(2000), lambda: T.edge_index] * 2
    found = side_by_side(*works)
    close(found[0], expected[0], 1e-5)
    close(found[4], expected[1], 1e-5)
    assert torch.equal(found[2], found[5])


@pytest.mark.parametrize("model", [lg.dynamics.Mutualistic(), lg.dynamics.Regulatory(), lg.dynamics.SIS()])
def test_equilibria_of_one_graph(model):
    """What leads nowhere is set aside once for a graph."""
    expected = lg.dynamics.equilibrium(graph(), model, "high")
    web = graph()
    found = side_by_side(*[lambda: lg.dynamics.equilibrium(web, model, "high")] * THREADS)
    for one in found:
        close(one.x, expected.x, 1e-6)
        assert one.stable == expected.stable
        assert one.converged


@pytest.mark.parametrize("workers", [1, 3])
def test_resilience_on_threads(workers):
    web, model = graph(60, 300), lg.dynamics.Mutualistic()
    expected = lg.dynamics.resilience_curve(web, model, "nodes", [0, 0.4, 0.8], 4)
    with ThreadPoolExecutor(workers) as pool:
        found = lg.dynamics.resilience_curve(web, model, "nodes", [0, 0.4, 0.8], 4, executor=pool)
    close(figures(found), figures(expected), 1e-6)


def test_two_curves_on_one_pool():
    web = graph(60, 300)
    curves = [
        lambda pool, model=model: lg.dynamics.resilience_curve(web, model, "links", [0, 0.5], 3, executor=pool)
        for model in (lg.dynamics.Mutualistic(), lg.dynamics.Regulatory())
    ]
    expected = [curve(None) for curve in curves]
    with ThreadPoolExecutor(2) as pool:
        found = side_by_side(*[lambda curve=curve: curve(pool) for curve in curves])
    for one, right in zip(found, expected, strict=True):
        close(figures(one), figures(right), 1e-6)


def test_communities_draw_by_themselves():
    """Python's generator, from which igraph draws, is that of the caller again."""
    web = graph(200, 600)
    expected = [lg.communities(web, seed=seed).labels for seed in range(3)]
    random.seed(5)
    state = random.getstate()
    found = side_by_side(*[lambda seed=seed: lg.communities(web, seed=seed).labels for seed in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert random.getstate() == state


def test_figures_on_threads():
    """Each has axes of its own."""
    curve = lg.dynamics.resilience_curve(graph(40, 200), lg.dynamics.SIS(), "nodes", [0, 0.5], 2)
    axes = side_by_side(*[lambda: lg.plot.state_against_capacity(curve, lg.dynamics.SIS())] * 3)
    assert len({id(ax.figure) for ax in axes}) == 3
    assert len({len(ax.lines) for ax in axes}) == 1


# what the process has once ------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="files have no modes here")
def test_files_on_threads_have_the_modes_of_the_umask(tmp_path):
    mask = os.umask(0o027)
    try:
        meeting = Meeting()

        def write(name, stop=lambda: None):
            write_whole(tmp_path / name, lambda path: (path.write_text(name), stop()))

        meeting.beside(lambda: write("a", meeting), lambda: write("b"))
        side_by_side(*[lambda k=k: [write(f"{k}-{i}") for i in range(50)] for k in range(THREADS)])
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)


def test_filters_of_warnings_stay():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = list(warnings.filters)

        def work():
            for _ in range(3):
                graph(2000, 20_000) @ torch.ones(2000, dtype=torch.float64)
                P = network()
                P @ torch.eye(P.num_nodes, 3, dtype=P.dtype)
                lg.strength_distribution(graph()).power_law()

        side_by_side(*[work] * 3)
        assert warnings.filters == before
