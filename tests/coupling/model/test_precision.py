"""Half precision, autocast, and what a device is not made to wait for."""

import copy
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import linegraph as lg
from benchmarks.networks import resnet18
from linegraph.coupling import products
from linegraph.errors import DegenerateCapacitanceWarning, PrecisionWarning
from tests.cases import CASES
from tests.comparison import close

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "_unique2", "unique_dim", "equal"}
"""Operations whose result, or its shape, the processor must have from the device before it can go on."""


class Waits(TorchDispatchMode):
    """Notes the operations that would make the processor wait for a device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        indices = args[1] if name == "index" else ()
        if name in WAITS or any(i is not None and i.dtype == torch.bool for i in indices):
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
@pytest.mark.parametrize("name", ["residual_batch_norm", "look_ups", "lstm", "products"])
def test_the_tape_never_waits_for_the_device(name, kind):
    model, loss, data = CASES[name].make()
    P = lg.NeuralCoupling(model, loss, [data], kind=kind)
    with Waits() as waits:
        tape = P.passes.record(*data)
        with P.passes.sweep():
            products.pull_ones(tape, P._vector())
            products.push_ones(tape, P._vector())
            products.pull(tape, P.split(P.weights()), P._vector())
    assert waits.found == []


def test_waits_are_noticed():
    with Waits() as waits:
        torch.ones(3)[torch.tensor([True, False, True])].sum().item()
    assert waits.found == ["index", "_local_scalar_dense"]


@pytest.mark.slow
def test_resnet_in_half_precision():
    torch.manual_seed(0)
    model = resnet18(10).eval()
    x, y = torch.randn(2, 3, 32, 32), torch.randint(10, (2,))

    def couple(model, x, kind):
        return lg.NeuralCoupling(model, F.cross_entropy, (x, y), kind=kind)

    def in_half(kind):
        yield couple(copy.deepcopy(model).bfloat16(), x.bfloat16(), kind)
        with torch.autocast("cpu", torch.bfloat16):
            yield couple(model, x, kind)

    exact = lg.capacitance(couple(copy.deepcopy(model).double(), x.double(), "magnitude")).beta_eff
    for P in in_half("magnitude"):
        assert P.dtype == torch.float32
        assert lg.capacitance(P).beta_eff == pytest.approx(exact, rel=0.02)
    # Signed sums cancel, and β_eff, a ratio of two of them, moves by several percent when only the weights are
    # rounded; the strengths themselves are what half precision can give.
    strengths = couple(model, x, "signed").in_strength()
    for P in in_half("signed"):
        assert float((P.in_strength() - strengths).norm() / strengths.norm()) < 0.05


def test_autocast_is_that_of_making():
    """Passes made later, over a loader, run in the precision of the place where P was made; products in that of x."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4))
    data = torch.randn(32, 8), torch.randn(32, 4)
    with torch.autocast("cpu", torch.bfloat16):
        kept, streamed = (lg.NeuralCoupling(model, F.mse_loss, d) for d in (data, [data]))
        inside = kept.in_strength()
    full = lg.NeuralCoupling(model, F.mse_loss, data).in_strength()
    close(inside, kept.in_strength(), 1e-5)
    close(streamed.in_strength(), inside, 1e-5)
    assert 1e-4 < float((inside - full).norm() / full.norm()) < 0.05
    torch.testing.assert_close(kept @ kept.weights() + kept.drive(), -kept.gradient(), rtol=0.05, atol=1e-3)


def deep(seed):
    torch.manual_seed(seed)
    widths = (8, 16), (16, 16), (16, 16)
    hidden = [layer for a, b in widths for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*hidden, nn.Linear(16, 4)), (torch.randn(32, 8), torch.randint(4, (32,)))


def coupled(model, x, y, kind="signed"):
    return lg.NeuralCoupling(model, F.cross_entropy, (x, y), kind=kind)


def test_half_precision_warns_where_terms_cancel():
    errors = []
    for seed in range(5):
        model, (x, y) = deep(seed)
        half, x = model.bfloat16(), x.bfloat16()
        P = coupled(half, x, y)
        with pytest.warns(PrecisionWarning, match=r"model.float\(\)"):
            rough = lg.capacitance(P).beta_eff
        one, _, size = P.walks()
        exact = lg.capacitance(coupled(copy.deepcopy(half).double(), x.double(), y)).beta_eff
        errors.append(abs(rough / exact - 1))
        assert errors[-1] < P.rounding * (size / one) ** 2  # what the warning estimates
    assert max(errors) > 0.02  # what it is about


def test_half_precision_warns_of_nothing_else():
    model, (x, y) = deep(0)
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(PrecisionWarning):
        lg.capacitance(coupled(model, x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        for kind, tolerance in (("signed", 1e-3), ("magnitude", 1e-5)):
            exact = lg.capacitance(coupled(copy.deepcopy(model).double(), x.double(), y, kind)).beta_eff
            assert lg.capacitance(coupled(model, x, y, kind)).beta_eff == pytest.approx(exact, rel=tolerance)
        rough = lg.capacitance(coupled(copy.deepcopy(model).bfloat16(), x.bfloat16(), y, "magnitude")).beta_eff
        assert rough == pytest.approx(exact, rel=0.02)


def test_half_precision_knows_a_ratio_of_zeros():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).bfloat16()
    P = lg.NeuralCoupling(model, F.cross_entropy, (torch.randn(32, 8).bfloat16(), torch.randint(4, (32,))))
    assert P.rounding == P.T.rounding == torch.finfo(torch.bfloat16).eps
    assert P.precision == torch.finfo(torch.float32).eps
    with pytest.warns(DegenerateCapacitanceWarning):
        assert math.isnan(lg.capacitance(P).beta_eff)
