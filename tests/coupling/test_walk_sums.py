"""Sums over walks of one and two steps, against products with vectors of all weights."""

import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._pytree import tree_map

import linegraph as lg
from linegraph.coupling import walk_sums as walks
from linegraph.coupling.base import Coupling
from linegraph.coupling.operations.windows import Window
from linegraph.coupling.tracing.tape import Tape
from linegraph.errors import DegenerateCapacitanceWarning
from tests.cases import CASES, squared

KINDS = [("signed", name) for name in CASES] + [("magnitude", name) for name in CASES]


def check(P, monkeypatch):
    """Both ways of the second step equal the sums of vectors."""
    incoming = P.in_strength()
    one, two = float(incoming.sum()), float((P @ incoming).sum())
    for smaller in (walks._is_smaller_as_factors, lambda call, s: False, walks._can_be_factors):
        monkeypatch.setattr(walks, "_is_smaller_as_factors", smaller)
        found = P.walks()
        assert found.one == pytest.approx(one, rel=1e-10, abs=1e-12 * max(found.size, 1e-3))
        if not found.one and not found.two:  # the products hold rounding errors, which are no reference
            continue
        assert found.two == pytest.approx(two, rel=1e-9, abs=1e-9 * float((P @ incoming).abs().sum()))
    monkeypatch.undo()


@pytest.mark.parametrize(("kind", "name"), KINDS)
@pytest.mark.parametrize("samples", [1, 6])
def test_walks_are_sums_of_products(kind, name, samples, monkeypatch):
    check(lg.NeuralCoupling(*CASES[name].make(samples=samples), kind=kind), monkeypatch)


def test_one_sweep_tells_that_all_that_arrives_is_rounding(monkeypatch):
    """As in a transformer whose norms have equal gains."""
    P = lg.NeuralCoupling(*CASES["encoder"].make())
    sweeps, pull_back = [], Tape.pull_back
    monkeypatch.setattr(Tape, "pull_back", lambda tape, *args, **kw: sweeps.append(pull_back(tape, *args, **kw)))
    with pytest.warns(DegenerateCapacitanceWarning, match="0/0 up to rounding"):
        found = lg.capacitance(P)
    assert math.isnan(found.beta_eff)
    assert len(sweeps) == 1


@settings(max_examples=60)
@given(
    dims=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    samples=st.integers(1, 3),
    kind=st.sampled_from(["signed", "magnitude"]),
)
def test_walks_through_convolutions(dims, kernel, stride, padding, dilation, samples, kind):
    torch.manual_seed(0)
    make = [nn.Conv1d, nn.Conv2d, nn.Conv3d][dims - 1]
    middle = make(2, 3, kernel, stride=stride, padding=padding, dilation=dilation)
    model = nn.Sequential(make(2, 2, 1), nn.Tanh(), middle, nn.Sigmoid(), make(3, 2, 1), nn.Tanh(), make(2, 2, 1))
    data = torch.randn(samples, 2, *(6,) * dims).double(), torch.tensor(0.0).double()
    P = lg.NeuralCoupling(model.double(), squared, data, kind=kind)
    with pytest.MonkeyPatch.context() as monkeypatch:
        check(P, monkeypatch)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_capacitance_is_undefined_exactly_where_the_sum_of_all_entries_is_rounding(name, dtype):
    """As after softmax, and where a normalisation lies on every path: it sends back nothing of equal seeds."""
    model, loss, data = CASES[name].make()
    matrix = lg.NeuralCoupling(model, loss, data).to_graph().to_dense()
    vanishes = abs(float(matrix.sum())) <= 1e-14 * float(matrix.abs().sum())
    data = tree_map(lambda t: t.to(dtype) if t.is_floating_point() else t, data)
    model = model.to(dtype)
    for given_as in ([data], data):  # batches, and one pass
        P = lg.NeuralCoupling(model, loss, given_as)
        with pytest.warns(DegenerateCapacitanceWarning) if vanishes else nullcontext():
            found = lg.capacitance(P).beta_eff
        assert math.isnan(found) == vanishes
    if not vanishes and dtype == torch.float64:
        ones = torch.ones(len(matrix), dtype=dtype)
        size = float(matrix.abs().sum(0) @ matrix.abs().sum(1))
        assert found * float(matrix.sum()) == pytest.approx(
            float(ones @ matrix @ matrix @ ones), rel=1e-8, abs=1e-12 * size
        )


class Transformer(nn.Module):
    """Layer norms with gains of their own before every block and at the end, as after training."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True, norm_first=True)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)

    def forward(self, x):
        return self.head(self.norm(self.block(self.embed(x))).mean(1))


def test_signed_couplings_of_a_transformer_sum_to_zero():
    """Layer norm is blind to a shift, so gradients of what enters the residual stream sum to 0 over its features."""
    data = torch.randn(5, 4, 3).double(), torch.randint(4, (5,))
    P = lg.NeuralCoupling(Transformer().double(), F.cross_entropy, data)
    matrix = P.to_graph().to_dense()
    assert abs(float(matrix.sum())) <= 1e-13 * float(matrix.abs().sum())
    with pytest.warns(DegenerateCapacitanceWarning, match="transformer"):
        assert math.isnan(lg.capacitance(P).beta_eff)


def test_few_samples_are_kept_as_factors():
    model = nn.Sequential(nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 5)).double()
    for samples, number in [(3, 2), (23, 1), (25, 0)]:  # the harmonic means of 30 and 20, and of 20 and 20
        P = lg.NeuralCoupling(model, squared, (torch.randn(samples, 30).double(), torch.tensor(0.0).double()))
        sums = walks.WalkSums(P.passes._kept, P.dtype)
        sums.one_step()
        assert len(sums._factors) == number, samples


def test_a_coupling_of_one_pass_and_of_batches_have_the_same_walks():
    model, loss, data = CASES["mlp"].make(samples=4)
    whole, batches = (lg.NeuralCoupling(model, loss, d) for d in (data, [data]))
    assert whole.walks()[:2] == pytest.approx(batches.walks()[:2])
    assert whole.walks()[:2] == pytest.approx(Coupling.walks(whole)[:2])


@given(
    taps=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
    size=st.integers(1, 12),
)
def test_windows_are_convolutions_with_ones(taps, stride, padding, dilation, size):
    window = Window(taps, stride, padding, dilation)
    outputs = window.outputs(size)
    if outputs < 1:
        return
    x = torch.randn(2, 1, size).double()
    ones, options = torch.ones(1, 1, taps).double(), {"stride": stride, "padding": padding, "dilation": dilation}
    y = F.conv1d(x, ones, **options)
    torch.testing.assert_close(window.sums(x, 2, outputs), y)
    back = F.conv_transpose1d(y, ones, output_padding=size - window.inputs(outputs), **options)
    torch.testing.assert_close(window.spread(y, 2, size), back)
    assert window.inputs(outputs) == size - (size - window.inputs(1)) % stride
