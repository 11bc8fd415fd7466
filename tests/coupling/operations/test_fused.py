"""Fused operations of torch against what they are written out as."""

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import linegraph as lg
from linegraph.coupling.operations.decompositions import decomposition
from linegraph.coupling.operations.signatures import in_one_form
from tests.comparison import close
from tests.coupling.test_kinds import between

aten = torch.ops.aten
REAL, COMPLEX = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.complex128)
TRANSFORMS = {
    "all dimensions": (torch.fft.fftn, (COMPLEX,), {}),
    "some dimensions": (torch.fft.ifftn, (COMPLEX,), {"dim": (0, 1), "norm": "ortho"}),
    "sizes": (torch.fft.fftn, (REAL, (5, 2)), {}),
    "two dimensions": (torch.fft.fft2, (REAL,), {}),
    "sizes of two": (torch.fft.ifft2, (COMPLEX, (2, -1)), {"norm": "forward"}),
    "real": (torch.fft.rfftn, (REAL,), {}),
    "real, some dimensions": (torch.fft.rfft2, (REAL, (4, 3), (0, 1)), {}),
    "to real": (torch.fft.irfftn, (COMPLEX, None, (1, 2)), {"norm": "ortho"}),
    "to real of a size": (torch.fft.irfft2, (COMPLEX, (3, 5)), {}),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_one_dimension_after_the_other(name):
    function, args, kwargs = TRANSFORMS[name]
    found, expected = decomposition(function)(*args, **kwargs), function(*args, **kwargs)
    assert found.is_complex() == expected.is_complex()
    torch.testing.assert_close(found, expected)


def test_magnitude_along_transforms_over_two_dimensions():
    def path(h):
        x = torch.fft.rfft2(h.view(4, 2, 3))
        return torch.fft.irfft2(x * (1 + x.abs()), s=(2, 3)).flatten(1)

    P, signed = (lg.NeuralCoupling(*between(path), kind=kind) for kind in ("magnitude", "signed"))
    v = torch.rand(P.num_nodes, dtype=torch.float64)
    bound, product = P @ v, signed @ v
    assert (bound >= product.abs() - 1e-12 * bound.amax()).all()
    u = torch.rand(P.num_nodes, dtype=torch.float64)
    close(u @ (P @ v), (P.T @ u) @ v)


class Opened(TorchFunctionMode):
    """Runs decompositions in place of operations."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        function, args, kwargs = in_one_form(function, args, kwargs or {})
        return (decomposition(function) or function)(*args, **kwargs)


NORMS = {
    "layer": lambda x, w, b: aten.native_layer_norm.default(x, [6], w, b, 1e-5),
    "RMS": lambda x, w, b: aten._fused_rms_norm.default(x, [6], w, 1e-5),
    "group": lambda x, w, b: aten.native_group_norm.default(x, w, b, 4, 6, 1, 2, 1e-5),
    "batch": lambda x, w, b: aten.native_batch_norm.default(x, w, b, None, None, True, 0.1, 1e-5),
    "batch, constant": lambda x, w, b: aten._native_batch_norm_legit_no_training.default(
        x, w, b, torch.zeros(6).double(), torch.ones(6).double(), 0.1, 1e-5
    ),
}


class Normed(nn.Module):
    """A norm whose factor is a synapse, in the form in which an exported network calls it."""

    def __init__(self, norm):
        super().__init__()
        torch.manual_seed(0)
        self.norm = norm
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)
        self.factor, self.shift = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(6))

    def forward(self, x):
        return self.last(self.norm(self.first(x), self.factor, self.shift)[0])


@pytest.mark.parametrize("name", NORMS)
def test_statistics_and_factors_of_norms(name):
    x, w, b = torch.randn(4, 6).double(), torch.randn(6).double(), torch.randn(6).double()

    expected = NORMS[name](x, w, b)
    with Opened():
        found = NORMS[name](x, w, b)
    for one, other in zip(found, expected, strict=True):
        close(one, other)
    model, data = Normed(NORMS[name]).double(), (torch.randn(4, 3).double(), torch.randn(4, 2).double())
    P = lg.NeuralCoupling(model, nn.functional.mse_loss, data, include=lambda name, p: "bias" not in name)
    assert "factor" in {s.name for s in P.synapses}
    assert (P.verify(1e-9)["difference"] < 1e-9).all()
