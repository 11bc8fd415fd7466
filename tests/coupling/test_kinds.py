import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import linegraph as lg
from linegraph.coupling.tracing import probing
from linegraph.errors import DataError, UnsupportedOperationError
from tests.cases import CASES, squared
from tests.comparison import close

SMALL = ["mlp", "split_weight", "lstm", "look_ups"]


@pytest.mark.parametrize("name", SMALL)
def test_energy_entries_are_squares(name):
    made = CASES[name].make()
    signed = lg.NeuralCoupling(*made) @ torch.eye(lg.NeuralCoupling(*made).num_nodes, dtype=torch.float64)
    energy = lg.NeuralCoupling(*made, kind="energy").to_graph().to_dense()
    torch.testing.assert_close(energy, signed**2, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("name", SMALL)
def test_energy_strengths_are_within_their_standard_errors(name):
    made = CASES[name].make()
    P = lg.NeuralCoupling(*made, kind="energy", probes=200, generator=torch.Generator().manual_seed(1))
    exact = P.to_graph()
    for estimate, error, truth in zip(
        (P.in_strength(), P.out_strength()),
        P.standard_errors(),
        (exact.in_strength(), exact.out_strength()),
        strict=True,
    ):
        assert (estimate >= 0).all()
        surprise = (estimate - truth) / error.clamp_min(1e-3 * truth.max())
        assert surprise.square().mean() < 3  # 1 if the errors were normal and independent
        assert estimate.sum() == pytest.approx(float(truth.sum()), rel=0.3)


def test_energy_products_estimate_those_of_the_squares():
    made = CASES["mlp"].make()
    P = lg.NeuralCoupling(*made, kind="energy", probes=400)
    exact = P.to_graph()
    v = torch.randn(P.num_nodes, 2, dtype=torch.float64)
    for product in ("matvec", "rmatvec"):
        found, truth = getattr(P, product)(v), getattr(exact, product)(v)
        assert (found - truth).norm() < 0.2 * truth.norm()


def test_energy_products_with_ones_are_its_strengths_and_linear():
    P = lg.NeuralCoupling(*CASES["mlp"].make(), kind="energy", probes=5)
    ones, v = torch.ones(P.num_nodes, dtype=torch.float64), torch.randn(P.num_nodes, dtype=torch.float64)
    torch.testing.assert_close(P @ ones, P.in_strength())
    torch.testing.assert_close(P.T @ ones, P.out_strength())
    torch.testing.assert_close(P @ (ones + 2 * v), P @ ones + 2 * (P @ v))


def test_energy_standard_errors_fall_with_the_root_of_the_probes():
    made = CASES["mlp"].make()
    few, many = (
        lg.NeuralCoupling(*made, kind="energy", probes=n, generator=torch.Generator().manual_seed(0))
        for n in (100, 1600)
    )
    ratio = few.standard_errors()[0].norm() / many.standard_errors()[0].norm()
    assert ratio == pytest.approx(4, rel=0.2)


def test_energy_is_drawn_from_the_generator_alone():
    made = CASES["mlp"].make()

    def strength(seed):
        generator = torch.Generator().manual_seed(seed)
        return lg.NeuralCoupling(*made, kind="energy", probes=3, generator=generator).in_strength()

    state = torch.get_rng_state()
    first = strength(1)
    torch.rand(3)
    torch.set_rng_state(state)
    torch.testing.assert_close(first, strength(1))
    assert not torch.allclose(first, strength(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_energy_options():
    made = CASES["mlp"].make()
    with pytest.raises(ValueError, match=r"probes must be 2 or more.*got 1"):
        lg.NeuralCoupling(*made, kind="energy", probes=1)
    with pytest.raises(ValueError, match=r"probes= belongs to kind='energy'"):
        lg.NeuralCoupling(*made, kind="flow", probes=3)
    with pytest.raises(ValueError, match=r"exact.*'energy' has standard errors"):
        lg.NeuralCoupling(*made).standard_errors()
    with pytest.raises(ValueError, match=r"'signed', 'magnitude', 'flow', 'energy', got 'heat'"):
        lg.NeuralCoupling(*made, kind="heat")


@pytest.mark.parametrize("name", CASES)
def test_flow_is_the_signed_coupling_between_weights(name):
    made = CASES[name].make()
    P, flow = lg.NeuralCoupling(*made), lg.NeuralCoupling(*made, kind="flow")
    w, v = P.weights(), torch.randn(P.num_nodes, dtype=torch.float64)
    scale = float((w * (P @ w)).abs().max())
    torch.testing.assert_close(flow @ v, w * (P @ (w * v)), rtol=1e-10, atol=1e-12 * scale)
    torch.testing.assert_close(flow.in_strength(), w * (P @ w), rtol=1e-9, atol=1e-10 * scale)


class Between(nn.Module):
    """Two synapse layers with a path between: six features in, six out."""

    def __init__(self, path, modules=()):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.path = nn.Linear(3, 6), nn.Linear(6, 2), path
        self.inside = nn.ModuleList(modules).requires_grad_(False)

    def forward(self, x):
        return self.last(self.path(self.first(x), *self.inside))


def between(path, modules=()):
    """The model, a loss and four samples."""
    model = Between(path, modules).double().eval()
    x = torch.randn(4, 3, dtype=torch.float64)
    return model, squared, (x, torch.randn(4, 2, dtype=torch.float64))


def absolute_block(model, loss, data):
    """Σ_{s,t} |x_s[j]| |∂path(h)_t[i'] / ∂h_s[i]| |g_t[k]| between all weights of both layers, from autograd."""
    (x, targets), h = data, model.first(data[0]).detach()
    jacobian = torch.autograd.functional.jacobian(lambda h: model.path(h, *model.inside), h)
    y = model.last(model.path(h, *model.inside)).detach().requires_grad_()
    (g,) = torch.autograd.grad(loss(y, targets), y)
    block = torch.einsum("sj,tpsi,tk->ijkp", x.abs(), jacobian.abs(), g.abs())
    return block.reshape(model.first.weight.numel(), model.last.weight.numel())


def written(h, write):
    """A copy that is written to."""
    h = 3 * h
    write(h)
    return h


FIVE = torch.arange(5, -1, -1)
ELEMENTWISE = {
    "quotient of a constant": lambda h: -2 / (h.square() + 1),
    "power of a constant": lambda h: 2**h,
    "degrees and radians": lambda h: torch.rad2deg(torch.deg2rad(h).neg()),
    "special": lambda h: torch.special.expit(h),
    "prelu": lambda h: F.prelu(h, torch.tensor([-0.2, 0.3, -0.4, 0.1, 0.2, 0.5]).double()),
    "overload": lambda h: torch.ops.aten.neg.default(torch.ops.aten.mul.Tensor(h, -3.0)),
    "threshold": lambda h: F.threshold(h.abs(), 0.1, -3.0),
    "log sigmoid": lambda h: F.logsigmoid(-h),
    "truth values": lambda h: h * (h > 0) - (h < 0) * h,
    "whole numbers": lambda h: h * (-1 - FIVE) / torch.tensor([2, -1, 1, 1, -3, 1]),
    "broadcast": lambda h: torch.atan2(h[:, :1], torch.full((6,), -0.5).double()),
}
SEVERAL = {
    "glu": lambda h: F.glu(torch.cat([h, h.flip(1)], 1)),
    "addcmul": lambda h: torch.addcmul(h[:, [0]], h.roll(1, 0), h.roll(2, 0), value=-0.5),
    "lerp": lambda h: torch.lerp(h.flip(1), h.roll(1, 0), -0.3),
    "lerp with three": lambda h: torch.lerp(h.flip(1), h.roll(1, 0), h.roll(2, 0)),
    "hypot": lambda h: torch.hypot(h, h.flip(1)),
    "norms of rows": lambda h: h.norm(dim=1, keepdim=True) + h.norm(3.0, dim=1, keepdim=True).roll(1, 0).expand(4, 6),
    "in place": lambda h: h.tanh().roll(1, 1).addcdiv_(h, h.flip(0), value=-1.0),
}
MOVEMENT = {
    "rotation": lambda h: torch.rot90(h.view(4, 2, 3, 1), 1, (1, 2)).reshape(4, 6),
    "triangles": lambda h: h.tril() + h.triu(1),
    "take along": lambda h: torch.take_along_dim(h, FIVE[None], 1),
    "diagonals": lambda h: torch.diag_embed(h).diagonal(dim1=1, dim2=2),
    "scatter": lambda h: torch.zeros_like(h).scatter(1, FIVE.expand(4, 6), h),
    "index put": lambda h: torch.zeros_like(h).index_put((torch.arange(4).flip(0),), h),
    "written into a part": lambda h: written(h, lambda z: z.__setitem__((slice(None), slice(1, 6)), h[:, :5])),
    "copied into a view": lambda h: written(h, lambda z: z[:, :3].copy_(h[:, 3:])),
    "scaled part": lambda h: written(h.view(4, 6), lambda z: z[:, :2].mul_(-2)).cos(),
    "fold": lambda h: F.fold(h.view(1, 4, 6), (3, 4), (2, 2)).repeat(1, 1, 2, 1).reshape(4, 6),
}
REDUCED = {
    "variance": lambda h: h.var(1, keepdim=True).expand(4, 6),
    "variance of all, not corrected": lambda h: torch.var(h, False).expand(4, 6),
    "variance of all": lambda h: h.var().expand(4, 6),
    "deviation over samples": lambda h: torch.std(h, dim=0).expand(4, 6),
    "deviation over two dimensions": lambda h: h.view(4, 2, 3).std((0, 2)).repeat_interleave(3).expand(4, 6),
    "deviation and mean": lambda h: torch.std_mean(h, 1, keepdim=True)[0].expand(4, 6),
    "variance and mean of all": lambda h: torch.var_mean(h)[0].expand(4, 6),
    "mean, after the variance": lambda h: torch.var_mean(h, [0], correction=0)[1].expand(4, 6),
    "product": lambda h: h.prod(1, keepdim=True).expand(4, 6),
    "product of all": lambda h: torch.ops.aten.prod.default(1 + h / 4).expand(4, 6),
    "product with zeros": lambda h: (h * FIVE).prod(0).expand(4, 6),
}
SELECTED = {
    "largest": lambda h: h.view(4, 3, 2).max(2).values.repeat(1, 2) - h.view(4, 3, 2).amin(2).repeat(1, 2),
    "smaller": lambda h: torch.min(h, h.flip(0)),
    "sorted": lambda h: h.sort(1).values.cumsum(1),
    "largest at all": lambda h: h.max() - h.new_zeros(4, 6),
}
MIXED = {
    "product of matrices": lambda h: (h[:, 2:].unflatten(1, (2, 2)) @ h[:, :2, None]).flatten(1).repeat(1, 3),
    "contraction": lambda h: (
        torch.einsum("bi,cij->bcj", h[:1, :2], h[1:].view(3, 2, 3)).flatten(1).expand(4, 9)[:, 2:8]
    ),
    "convolution": lambda h: (
        F.conv1d(h[:2].view(2, 2, 3), h[2:, :4].view(2, 2, 2), h[2:, 4]).repeat(2, 1, 2)[..., :3].flatten(1)
    ),
    "largest size": lambda h: torch.linalg.vector_norm(h, float("inf")) - h.new_zeros(4, 6),
}
NEGATIVE = {
    "sum with a negative factor": lambda h: torch.add(h.roll(1, 0), h.flip(1), alpha=-0.5),
    "difference with a negative factor": lambda h: torch.sub(h.roll(1, 0), h.flip(1), alpha=-2),
    "sum in place": lambda h: h.tanh().flip(1).add_(h, alpha=-1),
    "difference from the right": lambda h: torch.rsub(h, h.flip(1), alpha=3),
    "index add": lambda h: h.index_add(1, torch.tensor([0, 1]), h[:, 2:4], alpha=-1),
}
PATHS = ELEMENTWISE | SEVERAL | MOVEMENT | SELECTED | MIXED | NEGATIVE


@pytest.mark.parametrize("name", PATHS)
def test_magnitude_is_made_of_absolute_jacobians(name):
    made = between(PATHS[name])
    P = lg.NeuralCoupling(*made, kind="magnitude")
    entries = P @ torch.eye(P.num_nodes, dtype=torch.float64)
    expected = absolute_block(*made)
    assert expected.any()
    torch.testing.assert_close(entries[:18, 18:], expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(P.T @ torch.eye(P.num_nodes, dtype=torch.float64), entries.T, rtol=1e-10, atol=1e-12)


class Flipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -grad


def in_script(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(function)


def swish(h):
    return -torch.sigmoid(h) * h


class Rounded(torch.autograd.Function):
    """A straight-through estimator."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return -grad


class Spike(torch.autograd.Function):
    """A spike, with a surrogate for its derivative, and a second output."""

    @staticmethod
    def forward(ctx, x, threshold):
        ctx.save_for_backward(x)
        return (x > threshold).to(x.dtype), x.sum(1, keepdim=True)

    @staticmethod
    def backward(ctx, of_spike, of_sum):
        (x,) = ctx.saved_tensors
        return -of_spike / (1 + x.abs()) ** 2 - of_sum, None


class Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad.clamp(-0.1, 0.1)


def at_points(h, points):
    """Values of h, as images of 2 × 3 pixels, between its pixels."""
    return F.grid_sample(h.view(4, 1, 2, 3), points, align_corners=False).flatten(1)


POINTS = torch.linspace(-0.9, 0.8, 12).double().view(1, 2, 3, 2).expand(4, -1, -1, -1)
PROBED = REDUCED | {
    "custom function": Flipped.apply,
    "view of what a custom function leaves": lambda h: Flipped.apply(h).flip(1),
    "custom functions in turn": lambda h: Flipped.apply(Flipped.apply(h)),
    "differentiable once": lambda h: Rounded.apply(h).flip(1),
    "spike": lambda h: Spike.apply(h, 0.1)[0],
    "one of two outputs": lambda h: Spike.apply(h, 0.1)[1].expand(4, 6),
    "products": lambda h: h.cumprod(1),
    "negative weights": lambda h: F.interpolate(h.view(1, 1, 4, 6), (4, 3), mode="bicubic").view(4, 3).repeat(1, 2),
    "image at points": lambda h: at_points(h, POINTS),
    "points of an image": lambda h: at_points(POINTS[:, 0], h.tanh().view(4, 1, 3, 2)).repeat(1, 2),
    "distances": lambda h: torch.cdist(h.view(4, 3, 2), h.view(4, 3, 2).flip(2)).flatten(1)[:, :6],
    "inverse": lambda h: torch.linalg.inv(h[:, :4].view(4, 2, 2) + torch.eye(2)).flatten(1).repeat(1, 2)[:, :6],
    "bounded": lambda h: h.renorm(2, 0, 0.5),
    "scattered products": lambda h: h.scatter_reduce(1, FIVE.expand(4, 6), h.tanh(), "prod"),
    "special function": lambda h: torch.special.i0e(h),
    "complex": lambda h: torch.view_as_real(h.to(torch.complex128) * 1j)[..., 1] * -1,
    "transform": lambda h: torch.fft.fft(h, dim=1).real,
    "loss of every element": lambda h: F.huber_loss(h, h.flip(1), reduction="none"),
}


@pytest.mark.parametrize("name", PROBED)
def test_magnitude_finds_absolute_jacobians_without_a_formula(name):
    made = between(PROBED[name])
    P = lg.NeuralCoupling(*made, kind="magnitude")
    entries, expected = P @ torch.eye(P.num_nodes, dtype=torch.float64), absolute_block(*made)
    assert expected.any()
    torch.testing.assert_close(entries[:18, 18:], expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(P.T @ torch.eye(P.num_nodes, dtype=torch.float64), entries.T, rtol=1e-10, atol=1e-12)


def test_magnitude_of_scripted_code_does_not_depend_on_what_has_run_before():
    """It is that of its operations; where torch has joined these to one, as from the second run on, it is refused."""

    def swish_of_this_test(h):
        return -torch.sigmoid(h) * h

    scripted = in_script(swish_of_this_test)
    expected = lg.NeuralCoupling(*between(swish), kind="magnitude")
    v = torch.randn(expected.num_nodes, dtype=torch.float64)
    for _ in range(3):
        found = lg.NeuralCoupling(*between(scripted), kind="magnitude")
        close(found @ v, expected @ v)
        close(found.T @ v, expected.T @ v)
    h = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    for _ in range(3):
        scripted(h).sum().backward()
    joined = lg.NeuralCoupling(*between(scripted), kind="magnitude")
    with pytest.raises(UnsupportedOperationError, match=r"joined its operations.*optimized_execution\(False\)"):
        joined @ v
    signed = [lg.NeuralCoupling(*between(path)) for path in (scripted, swish)]
    close(signed[0] @ v, signed[1] @ v)


def test_magnitude_refuses_what_is_too_large_or_not_linear(monkeypatch):
    clipped = lg.NeuralCoupling(*between(Clipped.apply), kind="magnitude")
    with pytest.raises(UnsupportedOperationError, match=r"ClippedBackward.*custom.*not linear.*kind='energy'"):
        clipped.in_strength()
    monkeypatch.setattr(probing, "MOST_ENTRIES", 4 * 35)  # four samples have 4 blocks of 6 × 6
    assert lg.NeuralCoupling(*between(Flipped.apply), kind="magnitude").in_strength().any()
    large = lg.NeuralCoupling(*between(lambda h: h.cumprod(1)), kind="magnitude")
    with pytest.raises(UnsupportedOperationError, match=r"cumprod, which.*4 blocks of 6 × 6.*too large.*kind='energy'"):
        large.in_strength()
    assert lg.NeuralCoupling(*between(lambda h: h.cumprod(1)), kind="energy").in_strength().any()


def test_magnitude_lets_hidden_operations_pass_before_the_first_synapse_and_after_the_last():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = between(torch.tanh)[0]

        def forward(self, x):
            return Flipped.apply(self.body(Flipped.apply(x)))

    _, loss, (x, y) = between(torch.tanh)
    model = Net().double()
    P = lg.NeuralCoupling(model, loss, (x, y), kind="magnitude")
    plain = lg.NeuralCoupling(model.body, loss, (x, y), kind="magnitude")
    torch.testing.assert_close(P.in_strength(), plain.in_strength())


def test_magnitude_passes_hooks_that_watch_and_what_they_watch_is_still_noticed():
    for path in (torch.tanh, Flipped.apply, lambda h: -Flipped.apply(h)):
        made = between(path)
        expected = lg.NeuralCoupling(*made, kind="magnitude").in_strength()
        made[0].last.register_full_backward_hook(lambda *_: None)
        torch.testing.assert_close(lg.NeuralCoupling(*made, kind="magnitude").in_strength(), expected)
    made = between(Clipped.apply)
    made[0].last.register_full_backward_hook(lambda *_: None)
    with pytest.raises(UnsupportedOperationError, match="ClippedBackward"):
        lg.NeuralCoupling(*made, kind="magnitude").in_strength()


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN])
def test_magnitude_across_a_frozen_recurrent_layer_is_that_of_its_steps(make):
    """One step from a state of zeros, and its Jacobian written down."""
    cells = make(6, 6, batch_first=True)
    made = between(lambda h, cells: cells(h.unsqueeze(1))[0].squeeze(1), [cells])
    P = lg.NeuralCoupling(*made, kind="magnitude")
    h, w = made[0].first(made[2][0]).detach(), cells.weight_ih_l0.detach()
    gates = h @ w.T + cells.bias_ih_l0 + cells.bias_hh_l0
    if make is nn.RNN:
        local = (1 - gates.tanh() ** 2)[:, :, None] * w
        locals_ = [local]
    elif make is nn.LSTM:
        i, _, g, o = gates.chunk(4, 1)
        wi, _, wg, wo = w.chunk(4)
        si, so, c = i.sigmoid(), o.sigmoid(), i.sigmoid() * g.tanh()
        inner = (so * (1 - c.tanh() ** 2))[:, :, None]
        locals_ = [
            inner * (g.tanh() * si * (1 - si))[:, :, None] * wi,
            inner * (si * (1 - g.tanh() ** 2))[:, :, None] * wg,
            (c.tanh() * so * (1 - so))[:, :, None] * wo,
        ]
    else:
        own = h @ w.T + cells.bias_ih_l0
        r, z, n = own.chunk(3, 1)
        hr, hz, hn = cells.bias_hh_l0.chunk(3)
        wr, wz, wn = w.chunk(3)
        r, z = (r + hr).sigmoid(), (z + hz).sigmoid()
        n = (n + r * hn).tanh()
        locals_ = [
            ((1 - n**2) * hn * r * (1 - r))[:, :, None] * wr * (1 + z)[:, :, None],
            (1 - n**2)[:, :, None] * wn * (1 + z)[:, :, None],
            (n * z * (1 - z))[:, :, None] * wz,
        ]
    jacobian = sum(part.abs() for part in locals_).detach()  # samples, out, in
    (x, targets) = made[2]
    y = made[0](x).detach().requires_grad_()
    (grad,) = torch.autograd.grad(made[1](y, targets), y)
    block = torch.einsum("sj,spi,sk->ijkp", x.abs(), jacobian, grad.abs()).reshape(18, 12)
    entries = P @ torch.eye(P.num_nodes, dtype=torch.float64)
    torch.testing.assert_close(entries[:18, 18:], block, rtol=1e-10, atol=1e-12)


def test_magnitude_across_a_pooling_of_powers():
    made = between(lambda h: F.lp_pool1d(h.unsqueeze(1), 2, 2).squeeze(1).repeat(1, 2))
    P = lg.NeuralCoupling(*made, kind="magnitude")
    entries = P @ torch.eye(P.num_nodes, dtype=torch.float64)
    torch.testing.assert_close(entries[:18, 18:], absolute_block(*made), rtol=1e-10, atol=1e-12)


def relu_network(bias):
    torch.manual_seed(0)
    layers = [nn.Linear(5, 7, bias=bias), nn.ReLU(), nn.Linear(7, 6, bias=bias), nn.ReLU(), nn.Linear(6, 3, bias=bias)]
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("loss", [squared, F.cross_entropy])
def test_flow_does_not_change_when_neurons_are_rescaled(loss):
    model = relu_network(bias=True)
    x, y = torch.randn(8, 5, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64).softmax(1)
    c = torch.rand(7, dtype=torch.float64) * 3 + 0.1
    before = {
        kind: lg.NeuralCoupling(model, loss, (x, y), kind=kind).to_graph().to_dense() for kind in ("flow", "signed")
    }
    with torch.no_grad():
        model[0].weight *= c[:, None]
        model[0].bias *= c
        model[2].weight /= c
    after = {
        kind: lg.NeuralCoupling(model, loss, (x, y), kind=kind).to_graph().to_dense() for kind in ("flow", "signed")
    }
    torch.testing.assert_close(after["flow"], before["flow"], rtol=1e-9, atol=1e-15)
    assert not torch.allclose(after["signed"], before["signed"], rtol=1e-3)


def test_flow_is_conserved_at_every_neuron_without_biases():
    model = relu_network(bias=False)
    data = torch.randn(8, 5, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)
    P = lg.NeuralCoupling(model, squared, data, kind="flow")
    arriving, leaving = P.split(P.in_strength()), P.split(P.out_strength())
    for before, after in (("0.weight", "2.weight"), ("2.weight", "4.weight")):
        into, out = arriving[before].sum(1), leaving[after].sum(0)
        assert into.abs().max() > 1e-3
        torch.testing.assert_close(into, out, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["mlp", "cnn", "encoder"])
@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow", "energy"])
@pytest.mark.parametrize("first", ["signed", "magnitude", "flow"])
def test_a_coupling_of_another_kind_is_that_of_its_own_pass(name, kind, first):
    model, loss, data = CASES[name].make()
    P = lg.NeuralCoupling(model, loss, data, kind=first)
    P.in_strength()
    other, alone = P.of_kind(kind), lg.NeuralCoupling(model, loss, data, kind=kind)
    v = torch.randn(P.num_nodes, dtype=P.dtype)
    close(other @ v, alone @ v)
    close(other.T @ v, alone.T @ v)
    close(other.in_strength(), alone.in_strength())
    assert other.total(v) == pytest.approx(alone.total(v), rel=1e-6)
    assert (other is P) == (kind == first)
    assert P.shares_pass(kind) == ((kind == "magnitude") == (first == "magnitude"))


def test_a_coupling_of_another_kind_is_of_the_weights_of_the_first():
    model, loss, data = CASES["mlp"].make()
    P = lg.NeuralCoupling(model, loss, data)
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    for kind in ("flow", "magnitude"):
        with pytest.raises(lg.errors.StaleCouplingError):
            P.of_kind(kind)
    with pytest.raises(DataError, match="'size'"):
        P.of_kind("size")
