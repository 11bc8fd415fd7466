"""The identity and the adjoint on thousands of random small networks."""

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import linegraph as lg
from tests.cases import squared
from tests.comparison import close, true_gradient

ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "softplus": F.softplus,
    "square": torch.square,
    "softmax": lambda x: torch.softmax(x, -1),
    "norm": lambda x: F.layer_norm(x, x.shape[-1:]) if x.shape[-1] > 1 else x,
}
JOINS = {
    "sum": lambda a, b: a + b,
    "product": lambda a, b: a * b,
    "difference": lambda a, b: a - b,
    "concatenation": lambda a, b: torch.cat([a, b], -1),
}

layer = st.tuples(st.just("layer"), st.integers(1, 4), st.sampled_from(sorted(ACTIVATIONS)))
again = st.tuples(st.just("again"), st.integers(0, 5), st.sampled_from(sorted(ACTIVATIONS)))
tied = st.tuples(st.just("tied"), st.integers(0, 5), st.sampled_from(sorted(ACTIVATIONS)))
skip = st.tuples(st.just("skip"), st.integers(1, 4), st.sampled_from(sorted(JOINS)))
branch = st.tuples(st.just("branch"), st.integers(1, 4), st.sampled_from(sorted(JOINS)))
convolution = st.tuples(st.just("convolution"), st.integers(1, 3), st.sampled_from(sorted(ACTIVATIONS)))


class Program(nn.Module):
    """A network written as steps: new layers, layers used again or transposed, branches and skips."""

    def __init__(self, inputs, outputs, steps):
        super().__init__()
        self.steps = steps
        self.weights = nn.ParameterList()
        self.outputs = outputs
        self.trace(torch.zeros(1, inputs, dtype=torch.float64), build=True)

    def forward(self, x):
        return self.trace(x, build=False)

    def trace(self, x, build):
        taken = 0

        def weight(*shape):
            nonlocal taken
            if build:
                self.weights.append(nn.Parameter(torch.randn(shape, dtype=torch.float64) / shape[-1] ** 0.5))
            taken += 1
            return self.weights[taken - 1]

        def linear(x, size):
            return F.linear(x, weight(size, x.shape[-1]))

        earlier = [x]
        for kind, number, name in self.steps:
            if kind == "layer":
                x = ACTIVATIONS[name](linear(x, number))
            elif kind == "convolution":
                x = ACTIVATIONS[name](F.conv1d(x.unsqueeze(1), weight(number, 1, 3), padding=1).flatten(1))
            elif kind in ("again", "tied"):
                matrices = [w for w in self.weights[:taken] if w.ndim == 2]
                matrices = [w if kind == "again" else w.t() for w in matrices]
                fitting = [w for w in matrices if w.shape[1] == x.shape[-1]]
                if fitting:
                    x = ACTIVATIONS[name](F.linear(x, fitting[number % len(fitting)]))
            elif kind == "skip":
                other = earlier[number % len(earlier)]
                if name == "concatenation" or other.shape == x.shape:
                    x = JOINS[name](x, other)
            else:
                x = JOINS[name](torch.tanh(linear(x, number)), linear(x, number))
            earlier.append(x)
        return linear(x, self.outputs)


@settings(max_examples=2000, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.one_of(layer, again, tied, skip, branch, convolution), max_size=6),
    widths=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    seed=st.integers(0, 2**16),
)
def test_identity_and_adjoint(steps, widths, seed):
    torch.manual_seed(seed)
    inputs, outputs = widths
    model = Program(inputs, outputs, steps)
    data = torch.randn(3, inputs, dtype=torch.float64), torch.randn(3, outputs, dtype=torch.float64)
    P = lg.NeuralCoupling(model, squared, data)
    gradient = true_gradient(model, squared, data, [s.name for s in P.synapses])
    close(P @ P.weights() + P.drive(), -gradient, 1e-9)
    u, v = torch.randn(2, P.num_nodes, dtype=torch.float64)
    Pv, Pu = P @ v, P.T @ u
    torch.testing.assert_close(u @ Pv, Pu @ v, rtol=1e-9, atol=1e-9 * float(u.abs() @ Pv.abs()))


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.one_of(layer, again, tied, skip, branch, convolution), max_size=6),
    widths=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    seed=st.integers(0, 2**16),
)
def test_magnitude_bounds_signed_and_has_an_adjoint(steps, widths, seed):
    torch.manual_seed(seed)
    inputs, outputs = widths
    model = Program(inputs, outputs, steps)
    data = torch.randn(3, inputs, dtype=torch.float64), torch.randn(3, outputs, dtype=torch.float64)
    signed, P = (lg.NeuralCoupling(model, squared, data, kind=kind) for kind in ("signed", "magnitude"))
    close(P.gradient(), signed.gradient(), 1e-9)
    u, v = torch.rand(2, P.num_nodes, dtype=torch.float64)
    Pv, Pu = P @ v, P.T @ u
    torch.testing.assert_close(u @ Pv, Pu @ v, rtol=1e-9, atol=1e-300)
    for bound, product in ((Pv, signed @ v), (Pu, signed.T @ u)):
        assert (bound >= 0).all()
        assert (bound >= product.abs() * (1 - 1e-9) - 1e-12 * bound.amax()).all()
