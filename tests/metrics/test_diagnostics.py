import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import svds
from torch import nn

import linegraph as lg
from linegraph.errors import DegenerateCapacitanceWarning, NonFiniteError
from linegraph.metrics.diagnostics import _squared_norm
from linegraph.selection.candidates import digits_candidates
from tests.cases import CASES
from tests.metrics.graphs import Implicit, empty, layered, random_graph


def network(kind="magnitude", name="residual_batch_norm"):
    return lg.NeuralCoupling(*CASES[name].make(), kind=kind)


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
def test_columns_by_hand(kind):
    P = network(kind)
    dense, n = P.to_graph().to_dense(), P.num_nodes
    table = lg.diagnose(P, probes=n)
    assert list(table["layer"]) == [s.name for s in P.synapses]
    total = float(dense.sum())
    for row, s in zip(table.itertuples(), P.synapses, strict=True):
        nodes = slice(s.offset, s.offset + s.numel)
        rows, columns = dense[nodes], dense[:, nodes]
        assert row.synapses == s.numel
        assert row.in_strength == pytest.approx(float(rows.sum()), abs=1e-12)
        assert row.out_strength == pytest.approx(float(columns.sum()), abs=1e-12)
        assert row.mean_in_strength == pytest.approx(float(rows.sum()) / s.numel, abs=1e-12)
        assert row.share == pytest.approx(float(rows.sum()) / total, abs=1e-9)
        assert row.beta == pytest.approx(float(columns.sum(0) @ rows.sum(1)) / total, abs=1e-9)
        squares = float(rows.square().sum())
        if squares == 0:
            assert (row.effective_degree, math.isnan(row.stable_rank)) == (0, True)
            continue
        assert row.effective_degree == pytest.approx(float(rows.sum(1).square().sum()) / squares, rel=1e-9, abs=1e-9)
        assert row.stable_rank == pytest.approx(squares / float(torch.linalg.matrix_norm(rows, 2)) ** 2, rel=1e-7)
    assert table["beta"].sum() == pytest.approx(lg.capacitance(P).beta_eff, rel=1e-9)
    assert table["share"].sum() == pytest.approx(1)


def test_pairs_split_what_layers_contribute():
    P = network()
    pairs = lg.layer_pairs(P)
    assert np.allclose(pairs.sum(axis=1), lg.diagnose(P)["beta"])
    assert pairs.to_numpy().sum() == pytest.approx(lg.capacitance(P).beta_eff)
    dense = P.to_graph().to_dense()
    first, second = P.synapses[1], P.synapses[3]
    rows, columns = (slice(s.offset, s.offset + s.numel) for s in (first, second))
    by_hand = dense.sum(0)[rows] @ dense[rows, columns].sum(1) / dense.sum()
    assert pairs.loc[first.name, second.name] == pytest.approx(float(by_hand))


@pytest.mark.parametrize("singular", [[1.0], [3.0, 1, 1, 1], [1.0] * 20, [10.0] + [1.0] * 200])
def test_the_norm_of_a_sketch(singular):
    exact = max(singular) ** 2
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        sketch = np.array(singular)[:, None] * rng.choice([-1.0, 1.0], (len(singular), 32))
        found.append(_squared_norm(sketch.T @ sketch))
    # Leading values that are well apart are found without bias; equal ones are overrated.
    apart = singular.count(max(singular)) == 1
    assert np.mean(found) == pytest.approx(exact, rel=0.1 if apart else 0.8)
    assert np.mean(found) > 0.9 * exact


def test_estimates_are_as_good_as_they_say():
    G = random_graph(600, 6000)
    exact = lg.diagnose(G).iloc[0]
    assert exact["stable_rank_error"] == exact["effective_degree_error"] == 0
    seeds = [lg.diagnose(Implicit(G), generator=torch.Generator().manual_seed(s)) for s in range(60)]
    found = pd.concat(seeds)
    for column in ("effective_degree", "stable_rank"):
        spread = np.sqrt((found[f"{column}_error"] ** 2).mean())
        assert 0.7 < spread / found[column].std() < 2.5
    assert found["effective_degree"].mean() == pytest.approx(exact["effective_degree"], rel=0.05)
    assert found["stable_rank"].mean() < exact["stable_rank"]  # many patterns are nearly as strong as the first


def test_layers_of_a_network_are_ranked_by_their_entries():
    torch.manual_seed(0)
    (inputs, targets), _ = lg.datasets.digits()
    model = digits_candidates()["resnet-8"]()
    P = lg.NeuralCoupling(model, F.cross_entropy, (inputs[:4], targets[:4]), kind="magnitude")
    dense = P.to_graph().to_dense().double()
    table = lg.diagnose(P)
    for row, s in zip(table.itertuples(), P.synapses, strict=True):
        rows = dense[s.offset : s.offset + s.numel]
        squares = float(rows.square().sum())
        if squares:
            norm = svds(rows.numpy(), 1, return_singular_vectors=False, random_state=0)[0]
            assert row.stable_rank == pytest.approx(squares / norm**2, rel=1e-4)
            assert row.effective_degree == pytest.approx(float(rows.sum(1).square().sum()) / squares, rel=1e-4)
    assert lg.summary(P)["stable_rank"] == pytest.approx(lg.stable_rank(P))


def test_products_are_counted():
    P = Implicit(random_graph(300, 2000))
    table = lg.diagnose(P)
    assert len(table) == 1
    assert P.products == 16 + 4 + 1  # strengths twice, of a coupling that does not remember them, and the units


def test_a_graph_is_one_layer():
    table = lg.diagnose(layered(2, 3, 2))
    assert table["layer"].tolist() == ["graph"]
    assert table["share"].item() == pytest.approx(1)
    assert table["beta"].item() == pytest.approx(lg.capacitance(layered(2, 3, 2)).beta_eff)


def test_degenerate_denominators_are_nan_and_said():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    data = torch.randn(8, 4).double(), torch.randint(3, (8,))
    P = lg.NeuralCoupling(model, F.cross_entropy, data)
    with pytest.warns(DegenerateCapacitanceWarning):
        table = lg.diagnose(P)
    assert table["beta"].isna().all()
    assert table["stable_rank"].notna().any()
    with pytest.warns(DegenerateCapacitanceWarning):
        assert lg.layer_pairs(P).isna().to_numpy().all()


def test_summary():
    P = network()
    found, explicit = lg.summary(P, probes=P.num_nodes), lg.summary(P.to_graph(), probes=P.num_nodes)
    dense = P.to_graph().to_dense()
    singular = torch.linalg.svdvals(dense)
    assert list(found.index) == list(explicit.index)
    for name in found.index.drop("covered"):
        assert found[name] == pytest.approx(explicit[name], rel=1e-8), name
    assert (found["covered"], P.T.covered) == (P.covered, P.covered)
    assert math.isnan(explicit["covered"])
    assert found["nodes"] == P.num_nodes
    assert found["edges"] == P.num_edges
    assert found["acyclic"] is True
    assert found["spectral_radius"] == found["reciprocity"] == 0
    assert found["spectral_norm"] == pytest.approx(float(singular[0]))
    assert found["stable_rank"] == pytest.approx(float(singular.square().sum() / singular[0] ** 2))
    assert found["spectral_gap"] == pytest.approx(float(1 - singular[1] / singular[0]))
    assert found["beta_eff"] == pytest.approx(lg.capacitance(P).beta_eff)
    assert found["assortativity"] == pytest.approx(lg.assortativity(P.to_graph()))


def test_summary_of_cycles_signs_and_nothing():
    found = lg.summary(lg.NeuralCoupling(*CASES["shared"].make()))
    assert found["acyclic"] is False
    assert found["spectral_radius"] > 0
    assert math.isnan(found["assortativity"])
    with pytest.warns(DegenerateCapacitanceWarning):
        found = lg.summary(empty(3))
    assert (found["nodes"], found["density"], found["spectral_norm"]) == (3, 0, 0)
    assert math.isnan(found["stable_rank"])
    with pytest.warns(DegenerateCapacitanceWarning):
        assert lg.diagnose(empty(3))["stable_rank"].isna().all()
    with pytest.warns(DegenerateCapacitanceWarning):
        assert lg.diagnose(empty())["synapses"].tolist() == [0]
    with pytest.warns(DegenerateCapacitanceWarning):
        assert lg.summary(empty())["nodes"] == 0


def test_overflow_is_named():
    G = lg.GraphCoupling(torch.tensor([[0, 1], [2, 2]]), torch.full((2,), 1.7e308, dtype=torch.float64))
    with pytest.raises(NonFiniteError):
        lg.diagnose(G)
    with pytest.raises(ValueError, match="probes must be 2"):
        lg.diagnose(layered(2, 2), probes=1)


class ManyEdges(Implicit):
    num_edges = 2**60 + 1


def test_number_of_edges_is_an_exact_integer():
    found = lg.summary(random_graph(12, 40))
    assert isinstance(found["edges"], int)
    assert found["edges"] == random_graph(12, 40).num_edges
    found = lg.summary(ManyEdges(layered(3, 3)))
    assert found["edges"] == 2**60 + 1  # no double
    assert str(2**60 + 1) in found.to_string()


def test_a_sum_of_zeros_is_printed_as_zero():
    # The loss falls as the output rises, so that entries are negative, and what is divided by them −0.
    G = lg.GraphCoupling(torch.tensor([[0, 1, 3], [1, 2, 4]]), torch.tensor([-1.0, -2.0, -0.0]), num_nodes=6)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))
    P = lg.NeuralCoupling(model, lambda outputs, _: outputs.sum(), (torch.rand(5, 3), torch.rand(5, 1)))
    empty_part = lg.GraphCoupling(torch.tensor([[0], [1]]), torch.tensor([-0.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateCapacitanceWarning)
        for coupling in (G, P, P.T, empty_part):
            for table in (lg.diagnose(coupling), lg.layer_pairs(coupling), lg.summary(coupling).to_frame()):
                numbers = [x for x in table.to_numpy().ravel() if isinstance(x, float)]
                assert not any(x == 0 and math.copysign(1, x) < 0 for x in numbers)
