"""On another device every result is that of the host, and the host waits for none on the way."""

import math

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph import dynamics
from linegraph.coupling import kinds, products
from linegraph.coupling.entries import explicit
from linegraph.coupling.model.parameters import choose
from linegraph.coupling.model.plain_forward import in_the_open
from linegraph.coupling.model.preserve import differentiable
from linegraph.coupling.products import SynapseVector
from linegraph.coupling.walk_sums import WalkSums
from linegraph.selection.initial import initial_scores
from linegraph.selection.methods import METHODS
from tests.cases import CASES
from tests.devices import unwaited
from tests.dynamics.reference import MODELS, random_network
from tests.linalg.test_krylov import of_every_kind
from tests.metrics.graphs import random_graph

LONG = {"parametrised", "lstm", "lstm_packed", "encoder_decoder"}
"""Graphs made in so many small operations that a simulated device takes long; they are of the same sorts as others."""

KINDS = [("signed", name) for name in CASES] + [("magnitude", name) for name in CASES]


def moved(name, device):
    """A case on a device."""
    model, loss, data = CASES[name].make()
    return model.to(device), loss, tuple(part.to(device) for part in data)


def check(found, expected, device, tolerance=1e-9):
    assert found.device == device
    torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance)


# the operator -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:β_eff is 0/0")
@pytest.mark.parametrize(("kind", "name"), [*KINDS, ("flow", "cnn"), ("energy", "mlp")])
def test_products(kind, name, device):
    here, there = lg.NeuralCoupling(*CASES[name].make(), kind=kind), lg.NeuralCoupling(*moved(name, device), kind=kind)
    assert there.device == device
    block = torch.randn(here.num_nodes, 3, dtype=torch.float64)
    for v in (block[:, 0].contiguous(), block):
        check(there @ v.to(device), here @ v, device)
        check(there.T @ v.to(device), here.T @ v, device)
    for part in ("in_strength", "out_strength", "weights", "gradient", "drive"):
        check(getattr(there, part)(), getattr(here, part)(), device)
    found, expected = lg.capacitance(there), lg.capacitance(here)
    assert math.isnan(found.beta_eff) == math.isnan(expected.beta_eff)
    if not math.isnan(expected.beta_eff):
        assert float(found) == pytest.approx(float(expected), rel=1e-6, abs=1e-12)
    assert there.num_edges == here.num_edges


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_nothing_waits_for_a_pass(kind, name, device):
    model, loss, (x, y) = moved(name, device)
    here = lg.NeuralCoupling(*CASES[name].make(), kind=kind)
    chosen = choose(model, None).weights
    tape = kinds.make(kind, probes=None, generator=None).tape(chosen, share=1.0)
    v = here.split(torch.ones(here.num_nodes, dtype=torch.float64, device=device))
    memory = torch.empty(here.num_nodes, dtype=torch.float64, device=device)

    def record():
        with in_the_open(model), differentiable(model.parameters(), {id(p) for p in chosen.values()}), tape:
            tape.close(loss(model(x), y))

    if name == "lstm_packed":  # torch's own packing waits
        record()
    else:
        with unwaited(device):
            record()
    found = SynapseVector(here.synapses, memory)
    with unwaited(device), differentiable(list(model.parameters()), {id(p) for p in chosen.values()}):
        products.outer(tape, tape.gradients, found)
        for product in (products.pull, products.push):
            product(tape, v, found)
        sums = WalkSums(tape, torch.float64)
        one, _, _ = sums.one_step()
        two = sums.two_steps()
        for product in (products.pull_ones, products.push_ones):
            product(tape, found)
    check(one, here.in_strength().sum(), device)
    check(two, (here @ here.in_strength()).sum(), device)


def test_what_a_device_refuses(device):
    x = torch.ones(3, device=device)
    with pytest.raises(RuntimeError, match=r"two devices|same device"):
        x @ torch.ones(3)
    with pytest.raises(TypeError):
        x.numpy()
    with unwaited(device):
        x.add_(1).sum()
        for wait in (lambda: x.sum().item(), x.tolist, x.cpu, x.nonzero, lambda: x[torch.tensor([0, 1])]):
            with pytest.raises(RuntimeError, match=r"waits|synchroniz"):
                wait()


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
def test_batches(kind, device):
    model, loss, (x, y) = CASES["cnn"].make(samples=10)
    here = lg.NeuralCoupling(model, loss, DataLoader(TensorDataset(x, y), 4), kind=kind)
    v = torch.randn(here.num_nodes, 2, dtype=torch.float64)
    expected = here @ v, here.T @ v, lg.capacitance(here).beta_eff
    batches = [(x[i : i + 4].to(device), y[i : i + 4].to(device)) for i in (0, 4, 8)]
    there = lg.NeuralCoupling(model.to(device), loss, batches, kind=kind)
    check(there @ v.to(device), expected[0], device)
    check(there.T @ v.to(device), expected[1], device)
    assert lg.capacitance(there).beta_eff == pytest.approx(expected[2], rel=1e-9)


def test_data_left_on_the_host(device):
    model, loss, (x, y) = CASES["mlp"].make()
    with pytest.raises(lg.errors.DataError, match=device.type):
        lg.NeuralCoupling(model.to(device), loss, (x, y))


@pytest.mark.parametrize("name", [name for name in CASES if name not in LONG])
def test_explicit_graphs(name, device):
    here, there = lg.NeuralCoupling(*CASES[name].make()), lg.NeuralCoupling(*moved(name, device))
    expected, found = lg.line_graph(here), lg.line_graph(there)
    assert torch.equal(found.edge_index.cpu(), expected.edge_index)
    check(found.edge_weight, expected.edge_weight, device)
    check(found.x, expected.x, device)
    graph, kept = explicit.backbone(here, 2), explicit.backbone(there, 2)
    check(kept.weight.abs().sum(), graph.weight.abs().sum(), device)
    check(lg.coarse_graph(there, "neuron").edge_weight.sum(), here.in_strength().sum(), device)


def test_neuron_graphs(device):
    (here, _, (x, _)), (there, _, (far, _)) = CASES["cnn"].make(), moved("cnn", device)
    expected, found = lg.neuron_graph(here, x), lg.neuron_graph(there, far)
    assert torch.equal(found.edge_index.cpu(), expected.edge_index)
    torch.testing.assert_close(found.edge_weight.cpu(), expected.edge_weight)
    torch.testing.assert_close(found.activation.cpu(), expected.activation)


# metrics --------------------------------------------------------------------------------------------------------


def test_metrics(device):
    G = random_graph(400, 4000)
    there = G.to(device)
    expected = of_every_kind(G) | {"katz": lg.katz(G, alpha=0.05), "pagerank": lg.pagerank(G)}
    found = of_every_kind(there) | {"katz": lg.katz(there, alpha=0.05), "pagerank": lg.pagerank(there)}
    for name, values in found.items():
        torch.testing.assert_close(values.cpu(), expected[name], rtol=1e-7, atol=1e-7, msg=name)
    assert found["hubs"].device == found["katz"].device == device
    check(lg.betweenness(there), lg.betweenness(G), device)
    assert lg.communities(there).modularity == pytest.approx(lg.communities(G).modularity)
    assert lg.diagnose(there)["beta"].item() == pytest.approx(lg.diagnose(G)["beta"].item())
    assert lg.spectral_density(there).moment(2) == pytest.approx(lg.spectral_density(G).moment(2))
    assert lg.is_acyclic(there) == lg.is_acyclic(G)
    assert lg.sample_line_graph(there, [0, 1], [3, 2]).num_nodes == lg.sample_line_graph(G, [0, 1], [3, 2]).num_nodes
    assert torch.equal(lg.line_graph(there.to_pyg()).edge_index.cpu(), lg.line_graph(G.to_pyg()).edge_index)


def test_metrics_of_a_network(device):
    here, there = (
        lg.NeuralCoupling(*CASES["mlp"].make(), kind="magnitude"),
        lg.NeuralCoupling(*moved("mlp", device), kind="magnitude"),
    )
    check(lg.katz(there, alpha=1.0), lg.katz(here, alpha=1.0), device)
    check(lg.pagerank(there), lg.pagerank(here), device)
    check(lg.singular_values(there, 3), lg.singular_values(here, 3), device, 1e-7)
    found, expected = lg.diagnose(there), lg.diagnose(here)
    for column in ("in_strength", "beta", "effective_degree", "stable_rank"):
        assert found[column].to_numpy() == pytest.approx(expected[column].to_numpy(), nan_ok=True)


# dynamics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_equilibria(name, device):
    P, _ = random_network(500, 5, 4)
    there, model = P.to(device), MODELS[name][0]
    for start in ("low", "high"):
        here, found = dynamics.equilibrium(P, model, start), dynamics.equilibrium(there, model, start)
        check(found.x, here.x, device, 1e-6)
        assert found.stability == here.stability
        reduced, expected = dynamics.reduce(there, found.x), dynamics.reduce(P, here.x)
        assert (reduced.x_eff, reduced.beta_eff) == pytest.approx((expected.x_eff, expected.beta_eff), rel=1e-6)
    times = torch.linspace(0, 1, 3, dtype=torch.float64)
    here = dynamics.trajectory(P, model, "low", times)
    found = dynamics.trajectory(there, model, "low", times.to(device))
    check(found, here, device, 1e-6)


def test_copies_and_starts_together(device):
    P, _ = random_network(60, 5, 4)
    there, model = P.to(device), dynamics.Regulatory()
    starts = 4 * torch.rand(60, 5, dtype=torch.float64)
    check(
        dynamics.equilibrium(there, model, starts.to(device)).x,
        dynamics.equilibrium(P, model, starts).x,
        device,
        1e-6,
    )
    copies = [dynamics.perturb(P, nodes=0.3, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    far = [copy.to(device) for copy in copies]
    for found, here in zip(
        dynamics.equilibrium(far, model, "high"), dynamics.equilibrium(copies, model, "high"), strict=True
    ):
        check(found.x, here.x, device, 1e-6)
        assert found.stability == here.stability


@pytest.mark.parametrize("kind", ["nodes", "links", "weights"])
def test_perturbations(kind, device):
    P, _ = random_network(60, 5, 4)
    there = dynamics.perturb(P.to(device), **{kind: 0.5})
    assert there.device == device
    assert float(there.weight.sum()) < float(P.weight.sum())
    found, expected = (
        dynamics.resilience_curve(G, dynamics.SIS(), kind, [0, 0.5], repeats=2, seed=1) for G in (P.to(device), P)
    )
    assert found["x_eff"].to_numpy() == pytest.approx(expected["x_eff"].to_numpy(), rel=1e-6)


def test_edge_dynamics(device):
    here, there = lg.NeuralCoupling(*CASES["mlp"].make()), lg.NeuralCoupling(*moved("mlp", device))
    times = torch.tensor([0, 0.1], dtype=torch.float64)
    expected = dynamics.trajectory(here, dynamics.EdgeDynamics(here.drive()), here.weights(), times)
    found = dynamics.trajectory(there, dynamics.EdgeDynamics(there.drive()), there.weights(), times.to(device))
    check(found, expected, device, 1e-6)


# selection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_scores_at_initialisation(name, device):
    wanted = ("grad_norm", "snip", "grasp", "fisher", "jacobian_covariance", "synflow", "num_parameters", "logme")
    (here, _, (x, _)), (there, _, (far, _)) = CASES[name].make(), moved(name, device)
    y = torch.arange(len(x)) % 2
    chosen = [METHODS[each] for each in wanted]
    expected = initial_scores(chosen, here, F.cross_entropy, (x, y))
    found = initial_scores(chosen, there, F.cross_entropy, (far, y.to(device)))
    for each in wanted:
        assert (found[each].error, expected[each].error) == ("", "")
        assert found[each].value == pytest.approx(expected[each].value, rel=1e-6)


def moved_classifier(device):
    """A network in double precision, its samples, and held-out ones."""
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4), torch.nn.Linear(4, 3))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    x = torch.randn(40, 4, generator=generator, dtype=torch.float64)
    y = torch.arange(40) % 3
    return model.double().to(device), [(part[0].to(device), part[1].to(device)) for part in ((x[:15], y[:15]), (x, y))]


def test_tracking(device):
    histories = []
    for where in (torch.device("cpu"), device):
        model, (data, valid) = moved_classifier(where)
        tracker = lg.CapacitanceTracker(model, F.cross_entropy, data, kind=("magnitude", "signed"), valid=valid)
        for loss in (0.2, 0.4):
            tracker.record(loss=loss)
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(0.9)
        histories.append(tracker.history)
    assert "linear_probe" in histories[0]
    for name in histories[0]:
        found, expected = histories[1][name].to_numpy(), histories[0][name].to_numpy()
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True), name


def test_ranking(device):
    tables = []
    for where in (torch.device("cpu"), device):
        _, (data, valid) = moved_classifier(where)
        make = lambda: moved_classifier("cpu")[0]  # noqa: E731  (moved to the data)
        tables.append(lg.rank({"a": make}, data, valid, epochs=2, methods=("last_seen", "capacitance", "logme")))
    assert tables[1]["error"].isna().all()
    for found, expected in zip(*([table, table.attrs["history"]] for table in reversed(tables)), strict=True):
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


def test_half_precision(device):
    model, loss, (x, y) = CASES["cnn"].make()
    exact = lg.capacitance(lg.NeuralCoupling(model, loss, (x, y), kind="magnitude")).beta_eff
    model, data = model.bfloat16().to(device), (x.bfloat16().to(device), y.to(device))
    found = lg.capacitance(lg.NeuralCoupling(model, F.cross_entropy, data, kind="magnitude")).beta_eff
    assert found == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("name", ["cnn", "residual_batch_norm", "attention", "lstm", "look_ups"])
def test_single_precision(name, device):
    """Also of attention and recurrences that run fused in single precision only."""
    exact = lg.NeuralCoupling(*CASES[name].make())
    model, loss, data = CASES[name].make()
    data = tuple(part.float().to(device) if part.is_floating_point() else part.to(device) for part in data)
    found = lg.NeuralCoupling(model.float().to(device), loss, data)
    v = torch.randn(exact.num_nodes, dtype=torch.float64)
    for ours, theirs in (
        (found.in_strength(), exact.in_strength()),
        (found.matvec(v.float().to(device)), exact.matvec(v)),
        (found.rmatvec(v.float().to(device)), exact.rmatvec(v)),
        (found.gradient(), exact.gradient()),
    ):
        assert ours.dtype == torch.float32
        assert float((ours.cpu() - theirs).norm()) < 3e-3 * float(theirs.norm())  # convolutions in TF32


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.cuda)], indirect=True)
def test_autocast(device):
    model, loss, (x, y) = CASES["cnn"].make()
    exact = lg.capacitance(lg.NeuralCoupling(model, loss, (x, y), kind="magnitude")).beta_eff
    with torch.autocast(device.type, torch.bfloat16):
        P = lg.NeuralCoupling(
            model.float().to(device), F.cross_entropy, (x.float().to(device), y.to(device)), kind="magnitude"
        )
    assert P.dtype == torch.float32
    assert lg.capacitance(P).beta_eff == pytest.approx(exact, rel=0.02)


# where torch makes tensors by default ---------------------------------------------------------------------------


def figures_of_a_network(case, kind):
    P = lg.NeuralCoupling(*case, kind=kind)
    data, coarse = lg.line_graph(P), lg.coarse_graph(P, "neuron")
    found = {
        "product": P @ P.weights(),
        "transposed": P.T @ P.weights(),
        "in_strength": P.in_strength(),
        "values": data.edge_weight,
        "features": data.x,
        "strongest": lg.line_graph(P, top=2).edge_weight,
        "coarse": coarse.edge_weight,
        "sampled": lg.sample_line_graph(P, [0, 1], [2, 2], generator=torch.Generator().manual_seed(0)).edge_weight,
        "katz": lg.katz(P, alpha=0.1),
        "singular": lg.singular_values(P, 2),
        "capacitance": torch.tensor(lg.capacitance(P).beta_eff, device="cpu"),
        "beta": torch.tensor(lg.diagnose(P, probes=4)["beta"].to_numpy(), device="cpu"),
    }
    if kind == "magnitude":
        found["pagerank"] = lg.pagerank(P)
    return found


def figures_of_a_graph(G):
    model = dynamics.Regulatory()
    copies = [dynamics.perturb(G, nodes=0.3, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    found = of_every_kind(G) | {
        "katz": lg.katz(G, alpha=0.01),
        "pagerank": lg.pagerank(G),
        "betweenness": lg.betweenness(G),
        "high": dynamics.equilibrium(G, model, "high").x,
        "low": dynamics.equilibrium(G, dynamics.Mutualistic(), "low").x,
        "copies": torch.cat([rest.x for rest in dynamics.equilibrium(copies, model, "high")]),
        "line_graph": lg.line_graph(G.to_pyg()).edge_index,
        "density": torch.tensor(lg.spectral_density(G).moment(2), device="cpu"),
    }
    curve = dynamics.resilience_curve(G, dynamics.SIS(), "links", [0, 0.5], repeats=2, seed=1)
    return found | {"curve": torch.tensor(curve["x_eff"].to_numpy(), device="cpu")}


def compare(found, expected):
    for name, values in found.items():
        torch.testing.assert_close(values.cpu(), expected[name], rtol=1e-6, atol=1e-6, equal_nan=True, msg=name)


@pytest.mark.parametrize(("kind", "name"), [("magnitude", "cnn"), ("signed", "attention"), ("signed", "look_ups")])
def test_results_do_not_depend_on_the_default_device(kind, name, device):
    here, there = CASES[name].make(), moved(name, device)
    expected = figures_of_a_network(here, kind)
    with device:
        compare(figures_of_a_network(here, kind), expected)
        compare(figures_of_a_network(there, kind), expected)


def test_graphs_do_not_depend_on_the_default_device(device):
    G = random_graph(30, 150)
    there = G.to(device)
    expected = figures_of_a_graph(G)
    with device:
        compare(figures_of_a_graph(G), expected)
        compare(figures_of_a_graph(there), expected)
