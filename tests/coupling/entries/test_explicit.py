"""Explicit entries against products of the operator, on the ways by which they are formed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import linegraph as lg
from linegraph.coupling.entries import blocks, explicit
from linegraph.coupling.operations import factors
from linegraph.errors import NonFiniteError, UnsupportedOperationError
from tests.cases import CASES, squared
from tests.comparison import close
from tests.coupling.test_kinds import (
    ELEMENTWISE,
    MOVEMENT,
    NEGATIVE,
    PROBED,
    SELECTED,
    SEVERAL,
    between,
    in_script,
    swish,
)


def dense(P):
    return P @ torch.eye(P.num_nodes, dtype=P.dtype)


@pytest.fixture(params=["all columns at once", "one column at a time"])
def block_size(request, monkeypatch):
    if request.param == "one column at a time":
        monkeypatch.setattr(blocks, "ENTRIES_PER_BLOCK", 1)
        monkeypatch.setattr(factors, "MAX_ELEMENTS", 1)


@pytest.mark.usefixtures("block_size")
@pytest.mark.parametrize(
    "name", ["mlp", "cnn", "residual_batch_norm", "concatenation", "functional", "shared", "products"]
)
def test_blocks_of_any_size(name):
    P = lg.NeuralCoupling(*CASES[name].make())
    close(P.to_graph().to_dense(), dense(P))


def diagonal_layers(P):
    with P.passes.stage():
        formed = blocks.Blocks(P, P.passes._kept)
        return {layer.view.weight.name: formed.diagonal(layer) for layer in P.edge_layout.synapse_layers}


def test_layers_joined_element_by_element_take_one_product_of_matrices():
    """The fast way is taken where it may be, and nowhere else: pooling and flattening are not element by element."""
    for kind in ("signed", "magnitude"):
        P = lg.NeuralCoupling(*CASES["residual_batch_norm"].make(), kind=kind)
        found = {name: pairs is not None for name, pairs in diagonal_layers(P).items()}
        assert [name for name, fast in found.items() if fast] == ["conv.weight", "down.weight", "skip.weight"]
        # conv reads the stem; down and skip read the stem and conv, which the residual branch adds to it.
        assert len(diagonal_layers(P)["down.weight"]) == 2
    P = lg.NeuralCoupling(*CASES["cnn"].make())
    assert not any(diagonal_layers(P)[name] for name in ("body.3.weight", "body.7.weight"))


def test_a_permutation_is_not_taken_for_a_diagonal():
    class Net(nn.Module):
        def __init__(self, mix):
            super().__init__()
            self.first, self.last, self.mix = nn.Linear(3, 4), nn.Linear(4, 5), mix

        def forward(self, x):
            return self.last(self.mix(torch.tanh(self.first(x))))

    data = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    for mix in (lambda h: h.flip(0), lambda h: h.flip(1), lambda h: h + h.roll(1, 0), lambda h: F.layer_norm(h, (4,))):
        P = lg.NeuralCoupling(Net(mix).double(), squared, data)
        assert diagonal_layers(P)["last.weight"] is None
        close(P.to_graph().to_dense(), dense(P))


@settings(max_examples=40)
@given(
    dims=st.integers(1, 3),
    kernels=st.lists(st.integers(1, 3), min_size=2, max_size=2),
    strides=st.lists(st.integers(1, 2), min_size=2, max_size=2),
    paddings=st.lists(st.integers(0, 2), min_size=2, max_size=2),
    dilation=st.integers(1, 2),
    groups=st.lists(st.sampled_from([1, 2, 4]), min_size=2, max_size=2),
    seed=st.integers(0, 1000),
)
def test_random_convolutions(dims, kernels, strides, paddings, dilation, groups, seed):
    torch.manual_seed(seed)
    make = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    first = make(4, 4, kernels[0], strides[0], paddings[0], groups=groups[0])
    second = make(4, 4, kernels[1], strides[1], paddings[1], dilation=dilation, groups=groups[1])
    model = nn.Sequential(first, nn.Softplus(), second).double()
    x = torch.randn(2, 4, *(5,) * dims, dtype=torch.float64)
    if min(first(x).shape[2:]) + 2 * paddings[1] < dilation * (kernels[1] - 1) + 1:
        return
    P = lg.NeuralCoupling(model, lambda y, _: y.square().sum(), (x, torch.zeros(2)))
    G = P.to_graph()
    assert G.num_edges == P.num_edges
    v = torch.randn(P.num_nodes, 3, dtype=torch.float64)
    close(G @ v, P @ v)
    close(G.T @ v, P.T @ v)


@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow", "energy"])
@pytest.mark.parametrize("name", ["mlp", "residual_batch_norm"])
def test_entries_are_means_over_batches(name, kind):
    model, loss, (x, y) = CASES[name].make(samples=7)
    whole = lg.NeuralCoupling(model, loss, (x, y), kind=kind).to_graph()
    loader = DataLoader(TensorDataset(x, y), batch_size=3)
    P = lg.NeuralCoupling(model, loss, loader, kind=kind)
    close(P.to_graph().to_dense(), whole.to_dense())
    kept = explicit.backbone(P, 3)
    close(kept.weight, whole.to_dense()[kept.edge_index[1], kept.edge_index[0]])


@pytest.mark.parametrize("name", CASES)
def test_chosen_entries(name):
    P = lg.NeuralCoupling(*CASES[name].make())
    G = P.to_graph()
    some = torch.randperm(G.num_edges)[:7]
    sources, targets = G.edge_index[:, some]
    close(explicit.entries(P, targets, sources), G.weight[some])


def test_a_single_sample_without_a_batch_dimension():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    P = lg.NeuralCoupling(model, squared_vector, (torch.randn(3).double(), torch.randn(3).double()))
    close(P.to_graph().to_dense(), dense(P))


def squared_vector(outputs, targets):
    return (outputs - targets).square().sum()


def test_half_precision():
    model, loss, (x, y) = CASES["mlp"].make(samples=64)
    exact = lg.NeuralCoupling(model, loss, (x, y)).to_graph()
    P = lg.NeuralCoupling(copy.deepcopy(model).bfloat16(), loss, (x.bfloat16(), y))
    assert P.to_graph().weight.dtype == torch.float32
    assert torch.allclose(P.to_graph().weight.double(), exact.weight, atol=0.05 * float(exact.weight.abs().max()))


def test_infinite_entries_are_refused():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    P = lg.NeuralCoupling(model, lambda y, _: y.abs().sqrt().sum(), (torch.randn(4, 2).double(), torch.zeros(4)))
    for form in (P.to_graph, lambda: lg.line_graph(P, top=1), lambda: lg.sample_line_graph(P, [0], [1])):
        with pytest.raises(NonFiniteError, match="not its gradient"):
            form()
    with pytest.raises(NonFiniteError, match="not its gradient"):
        lg.coarse_graph(P)


def test_a_later_batch_that_uses_a_weight_another_way():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(3, 3))
            self.last = nn.Linear(3, 2)

        def forward(self, x):
            return self.last(torch.tanh(x @ self.w if len(x) == 4 else F.linear(x, self.w)))

    batches = [(torch.randn(n, 3), torch.randn(n, 2)) for n in (4, 5)]
    with pytest.raises(UnsupportedOperationError, match=r"'w' enters linear in a later batch"):
        lg.NeuralCoupling(Net(), F.mse_loss, batches).to_graph()


JOINED_ALONG_A_DIMENSION = {
    "fold": MOVEMENT["fold"],
    "scatter": MOVEMENT["scatter"],
    "index add": NEGATIVE["index add"],
}
FOLLOWED = {
    name: path
    for name, path in (ELEMENTWISE | SEVERAL | NEGATIVE | MOVEMENT).items()
    if name not in JOINED_ALONG_A_DIMENSION
}
HIDDEN = PROBED | {"scripted": in_script(swish)}


def joined(model, data):
    """Which of six features lead to which, in any sample, from autograd."""
    h = model.first(data[0]).detach()
    jacobian = torch.autograd.functional.jacobian(lambda h: model.path(h, *model.inside), h)
    return (jacobian != 0).any(0).any(1)


@pytest.mark.parametrize("name", FOLLOWED)
def test_edges_are_those_of_the_jacobian(name):
    model, loss, data = between(FOLLOWED[name])
    P = lg.NeuralCoupling(model, loss, data)
    assert P.num_edges == 3 * 2 * int(joined(model, data).sum())  # three weights enter a neuron, two leave one
    close(P.to_graph().to_dense(), dense(P))


def experts(h, *modules):
    """Some samples to one expert, the others to the other."""
    out, mask = torch.zeros(len(h), 6, dtype=h.dtype), torch.tensor([True, False, True, False])
    out[mask] = modules[0](h[mask])
    out[~mask] = modules[1](h[~mask])
    return out


def written_unseen(h, *modules):
    """A view that torch shows is written to by an operation that it does not show."""
    out = h * 2
    part = out[:, :3]
    in_script(write)(out, h)
    return torch.cat([part, out[:, 3:].roll(1, 0)], 1)


def write(out, h):
    return out.mul_(h.flip(1))


class Mixed(torch.autograd.Function):
    """Written in NumPy."""

    @staticmethod
    def forward(ctx, h):
        return torch.from_numpy(h.numpy().cumsum(1))

    @staticmethod
    def backward(ctx, grad):
        return grad.flip(1).cumsum(1).flip(1)


UNFOLLOWED = SELECTED | HIDDEN | JOINED_ALONG_A_DIMENSION | {
    "experts": experts,
    "Fourier": lambda h: torch.fft.fft(h).real + torch.fft.fft(h).imag,
    "real view": lambda h: torch.view_as_real(torch.fft.fft(h)).sum(2),
    "written by an operation unseen": written_unseen,
    "NumPy": Mixed.apply,
    "NumPy inside": lambda h: Mixed.apply(h.cos()).sin() + h,
    "statistics of the batch": lambda h: F.batch_norm(h * h.tril(), None, None, training=True),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFOLLOWED)
def test_no_edge_is_missing_where_paths_are_not_followed_element_by_element(name):
    P = lg.NeuralCoupling(*between(UNFOLLOWED[name], [nn.Linear(6, 6), nn.Linear(6, 6)] if name == "experts" else ()))
    entries = dense(P)
    G = P.to_graph()
    close(G.to_dense(), entries)
    assert P.num_edges == G.num_edges >= int((entries.abs() > 1e-12).sum()) > 0
    rows, columns = (P.row_components(), P.column_components())
    first = entries.abs().argmax()
    target, source = divmod(int(first), P.num_nodes)
    shared = (entries[:, source].abs() > 1e-12).nonzero().flatten()
    assert (rows[shared] == rows[target]).all()
    assert (columns[(entries[target].abs() > 1e-12).nonzero().flatten()] == columns[source]).all()


def test_a_path_that_is_cut_has_no_edges():
    model, loss, data = between(lambda h: h.cos() * h.flip(1).detach())
    P = lg.NeuralCoupling(model, loss, data)
    assert P.num_edges == 3 * 2 * 6
    close(P.to_graph().to_dense(), dense(P))


def test_zeros_may_arrive_where_no_path_leads():
    """The head reads the second token alone, and autograd sends zeros back to the first one."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            h = torch.tanh(self.first(x))
            return self.head(torch.stack([h, torch.tanh(self.second(h))], 1)[:, 1])

    P = lg.NeuralCoupling(Net().double(), squared, (torch.randn(4, 3).double(), torch.randn(4, 2).double()))
    G = P.to_graph()
    close(G.to_dense(), dense(P))
    assert P.num_edges == G.num_edges == 3 * 4 * 4 + 4 * 4 * 2
    best = lg.line_graph(P, top=P.num_nodes, features=False)
    assert best.num_edges == int((G.weight != 0).sum())
    coarse = lg.coarse_graph(P, by="layer")
    close(coarse.edge_weight.abs().sum(), sum(abs(dense(P)[a, b].sum()) for a, b in blocks_of(P)))


def blocks_of(P):
    """The places of the entries between each pair of weights."""
    ranges = [slice(s.offset, s.offset + s.numel) for s in P.synapses]
    return [(a, b) for a in ranges for b in ranges]


def test_long_selections_of_one_weight_are_told_apart():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.last = nn.Parameter(torch.randn(4, 5)), nn.Linear(4, 3)
            self.register_buffer("one", torch.arange(2000) % 3)
            self.register_buffer("other", torch.where((self.one > -1) & (torch.arange(2000) // 500 == 2), 3, self.one))

        def forward(self, x):
            h = [torch.tanh(F.linear(x, self.w[rows])) for rows in (self.one, self.other)]
            return self.last(torch.cat([h[0][:, :3], h[1][:, 1000:1001]], 1))

    P = lg.NeuralCoupling(Net().double(), squared, (torch.randn(4, 5).double(), torch.randn(4, 3).double()))
    close(P.to_graph().to_dense(), dense(P))
    assert P.num_edges == 4 * 5 * 3
